"""Whether the rows tell two files' divergences apart.

Both files answered the same rows, so the difference is taken row by row: what is hard about a row
is hard for both. Rows are averaged in parts first. Means of parts are nearly normal although single
rows are anything but, and they are few enough to be stored with every trial.

Source: the method of batch means (Conway 1963, "Some tactical problems in digital simulation"),
with Student's interval of paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.stats import t

from autosparse.evaluation.scores import Floats

_MOST_PARTS = 32
_FEWEST_PARTS = 4
_CONFIDENCE = 0.95


def parts_of(divergences: Floats) -> tuple[float, ...]:
    """Means of the divergences of consecutive rows, (at most 32,).

    Args:
        divergences: (rows,), of the same rows in the same order for every file.
    """
    parts = np.array_split(divergences, min(_MOST_PARTS, len(divergences)))
    return tuple(float(part.mean()) for part in parts)


def is_surely_larger(mine: Sequence[float], theirs: Sequence[float]) -> bool | None:
    """Whether the interval of the paired difference lies above zero; None where none can be given.

    Args:
        mine: (parts,) as `parts_of` gives them.
        theirs: (parts,) of the other file.
    """
    count = len(mine)
    if count != len(theirs) or count < _FEWEST_PARTS:
        return None
    difference = np.subtract(mine, theirs)
    half = _quantile(count - 1) * difference.std(ddof=1) / np.sqrt(count)
    # what is not a number is not near anything
    return not difference.mean() <= half


@cache
def _quantile(degrees: int) -> float:
    return float(t.ppf((1 + _CONFIDENCE) / 2, degrees))
