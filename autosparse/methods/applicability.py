"""Reasons shared by the methods that make zeros, and by those that only round."""

from __future__ import annotations

from collections.abc import Sequence

from autosparse.levels import Dense, Level, Precision
from autosparse.levels.integer_grid import GRIDS
from autosparse.levels.masks import why_pattern_does_not_fit
from autosparse.model_graph import Layer

_PRUNED = (Precision.FP32, Precision.INT8)


def why_not_pruned(
    method: str, layer: Layer, level: Level, precisions: Sequence[Precision] = _PRUNED
) -> str:
    """Why `method` cannot prune `layer` to `level`; empty where the level has zeros that fit."""
    if isinstance(level.pattern, Dense):
        return f"{layer.name}: {method} makes zeros, {level} has none"
    if level.precision not in precisions:
        return f"{layer.name}: {method} does not make {level.precision.value}"
    misfit = why_pattern_does_not_fit(
        level.pattern, layer.input_channels // layer.groups, layer.output_channels
    )
    return f"{layer.name}: {misfit}, {level} needs one" if misfit else ""


def why_not_rounded(method: str, layer: Layer, level: Level) -> str:
    """Why `method` cannot round `layer` to `level`; empty where it is a dense level with a grid."""
    if not isinstance(level.pattern, Dense):
        return f"{layer.name}: {method} makes no zeros, {level} needs a pruning method"
    grid = GRIDS.get(level.precision)
    if grid is None:
        return f"{layer.name}: {method} does not make {level.precision.value}"
    if grid.block is not None and layer.reduction % grid.block:
        return (
            f"{layer.name}: {layer.reduction} weights per output are no multiple of {grid.block}, "
            f"{level} needs one"
        )
    return ""
