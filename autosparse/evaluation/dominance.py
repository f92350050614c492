"""Pareto dominance: what is no worse in everything and better in something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
    found: list[int | None] = [None] * len(table)
    front: list[int] = []
    # whatever dominates a point comes before it in this order, and is on the front or dominated
    for row in np.lexsort((np.arange(len(table)), *table.T[::-1])).tolist():
        beaten = np.flatnonzero((table[front] <= table[row]).all(axis=1))
        if len(beaten):
            found[row] = front[int(beaten[0])]
        else:
            front.append(row)
    return found
