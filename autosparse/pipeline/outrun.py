"""Levels that lose on both counts: more error, and no less time, than another one of the layer."""

from __future__ import annotations

from collections.abc import Sequence

from autosparse.levels import Precision
from autosparse.levels.table import Cell


def why_outrun(cell: Cell, others: Sequence[Cell]) -> str:
    """Why a level is not worth a search: one with less error takes no more time.

    Asked of 4-bit weights and of sparse levels only: how fast their kernels are depends on rows,
    sizes and zeros, so only the clock can tell, and every level that stays makes the search
    harder. Dense levels stay, whatever their time: what they save may be conversions at their
    borders.
    """
    doubtful = cell.level.precision is Precision.INT4 or cell.level.sparsity > 0
    if not doubtful or cell.seconds is None:
        return ""
    for other in others:
        if (
            (other.layer, other.searched) == (cell.layer, True)
            # methods run equally fast; which one is nearer, the divergence tells
            and other.level.without_method() != cell.level.without_method()
            and other.level.precision is not Precision.INT4
            and other.seconds is not None
            and other.seconds <= cell.seconds
            and other.weight_error < cell.weight_error
        ):
            return (
                f"{cell.layer}: {cell.level} takes {cell.seconds * 1e6:.1f} us, and "
                f"{other.level} {other.seconds * 1e6:.1f} us with less error"
            )
    return ""
