"""What the runtime makes of a layer at a level, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from autosparse.errors import DisturbedError, KilledError
from autosparse.evaluation import ExecutedLayer
from autosparse.levels import Level
from autosparse.levels.table import Cell
from autosparse.levels.weights import CompressedWeight, FloatMatrix
from autosparse.model_graph import ModelGraph
from autosparse.pipeline.layer_choices import Choice

MACHINE_ERRORS = (DisturbedError, KilledError)
"""What says nothing of a file that could not be timed: nothing is refused for it."""


def timed_cell(
    graph: ModelGraph,
    choice: Choice,
    weight: CompressedWeight,
    runs_as: ExecutedLayer | None,
    seconds: Mapping[str, float],
) -> Cell:
    """A cell as a lowered file shows it.

    Args:
        graph: the dense model.
        choice: the layer, the level, and whether the search may choose it.
        weight: what was lowered.
        runs_as: what the runtime executes for the layer; None where it is not to be found.
        seconds: executed node -> its share of the file's latency.
    """
    name, level = choice.layer.name, choice.level
    reason = choice.reason
    if not reason and runs_as is not None and not runs_at(level, runs_as):
        kind = level.without_method()
        reason = f"{name}: the runtime executes {kind} as {runs_as.kernel}, no faster"
    return Cell(
        layer=name,
        level=level,
        searched=choice.searched and not reason,
        reason=reason,
        sparsity=weight.sparsity,
        weight_error=_relative_error(weight, choice.layer.to_matrix(graph.weight(choice.layer))),
        seconds=seconds.get(runs_as.node) if runs_as else None,
        kernel=runs_as.kernel if runs_as else "",
    )


def runs_at(level: Level, runs_as: ExecutedLayer) -> bool:
    """Whether the runtime does what makes the level fast."""
    return level.precision.value == runs_as.precision and (
        level.sparsity == 0 or runs_as.skips_zeros
    )


def refused(choice: Choice, reason: str | None = None) -> Cell:
    """The cell of a level that does not run, for the choice's reason or another one."""
    told = choice if reason is None else replace(choice, reason=reason)
    return Cell(layer=told.layer.name, level=told.level, searched=False, reason=told.reason)


def _relative_error(weight: CompressedWeight, dense: FloatMatrix) -> float:
    norm = float((dense.astype(np.float64) ** 2).sum()) or 1.0
    return float(((weight.values.astype(np.float64) - dense) ** 2).sum()) / norm
