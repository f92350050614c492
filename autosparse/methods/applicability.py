"""Reasons shared by the methods that make zeros."""

from __future__ import annotations

from autosparse.levels import Dense, Level, Precision
from autosparse.methods.masks import why_pattern_does_not_fit
from autosparse.model_graph import Layer


def why_not_pruned(method: str, layer: Layer, level: Level) -> str:
    """Why `method` cannot prune `layer` to `level`; empty where the level has zeros that fit."""
    if isinstance(level.pattern, Dense):
        return f"{layer.name}: {method} makes zeros, {level} has none"
    if level.precision not in (Precision.FP32, Precision.INT8):
        return f"{layer.name}: {method} does not make {level.precision.value}"
    misfit = why_pattern_does_not_fit(
        level.pattern, layer.input_channels // layer.groups, layer.output_channels
    )
    return f"{layer.name}: {misfit}, {level} needs one" if misfit else ""
