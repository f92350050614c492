"""How far two engines' outputs of one model are apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

TOLERANCE = 1e-3
"""Largest relative error at which two engines agree: rounding stays far below it."""


def relative_error(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """Norm of the worst output's difference over the norm of what is expected.

    Infinite where an output is missing, has another shape, or is not finite where it should be.
    """
    return max((_distance(found.get(name), array) for name, array in expected.items()), default=0.0)


def _distance(found: Array | None, expected: Array) -> float:
    if found is None or found.shape != expected.shape:
        return float("inf")
    mine, theirs = found.astype(np.float64), expected.astype(np.float64)
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):  # what is infinite in both is the same
        lost = float(np.linalg.norm(np.where(same, 0.0, mine - theirs)))
    norm = float(np.linalg.norm(np.where(np.isfinite(theirs), theirs, 0.0)))
    error = lost / norm if norm else lost
    return error if np.isfinite(error) else float("inf")
