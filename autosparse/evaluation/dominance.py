"""Pareto dominance: what is no worse in everything and better in something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def dominators(points: Sequence[Sequence[float | None]]) -> list[int | None]:
    """For every point one that dominates it; None for those of the front.

    Of equal points the first stays. What some points do not tell is compared for none: a point
    must not stay on the front for want of a figure.

    Args:
        points: (n, objectives), lower is better; None where it is not known.

    Returns:
        (n,) indices of points of the front.
    """
    known = [column for column in zip(*points, strict=True) if None not in column]
    if not known:
        return [None if index == 0 else 0 for index in range(len(points))]
    table = np.array(known, dtype=np.float64).T
    order = np.arange(len(table))

    def beaters(row: int) -> npt.NDArray[np.bool_]:
        no_worse = (table <= table[row]).all(axis=1)
        found: npt.NDArray[np.bool_] = no_worse & ((table < table[row]).any(axis=1) | (order < row))
        return found

    front = np.array([not beaters(row).any() for row in range(len(table))])
    return [
        None if front[row] else int(np.flatnonzero(beaters(row) & front)[0])
        for row in range(len(table))
    ]
