"""Build the level table: compress, lower each level once for all layers, see what really runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from autosparse.calibration import NO_STATISTICS, ActivationRanges
from autosparse.datasets import Dataset
from autosparse.errors import CompileError
from autosparse.evaluation import LoweredModel, LoweringRequest, TimingSettings
from autosparse.evaluation.metrics import BUILT_IN, Outputs
from autosparse.levels import BASELINE, Level, Precision, Recipe
from autosparse.levels.table import Cell, LevelTable
from autosparse.levels.weights import CompressedWeight, FloatMatrix
from autosparse.methods import METHODS
from autosparse.model_graph import Layer
from autosparse.pipeline.baseline import BASELINE_LABEL, measure_patiently
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.layer_choices import Choice

_PROFILE_RUNS = 100
_FEW_ROWS = 64
_QUICK = TimingSettings(rounds=4, block_seconds=0.02, max_seconds=10.0)


def build_level_table(job: Job, choices: Sequence[Choice], ranges: ActivationRanges) -> LevelTable:
    """Fill the table's missing cells; cells that are on disk already are kept.

    Each level is lowered once with every layer at it that can take it: what ONNX Runtime or
    another runtime makes of a layer among its like is what decides whether the level is real.
    """
    table = LevelTable(job.workspace.table)
    few = first_rows(job.selecting, _FEW_ROWS)
    dense = _lower(job, table, {}, ranges, "dense")
    reference = _answer(job, dense, few)
    for level in dict.fromkeys(choice.level for choice in choices):
        missing = [
            c for c in choices if c.level == level and table.find(c.layer.name, level) is None
        ]
        if missing:
            job.engines.progress.stage("levels", f"{level}: {len(missing)} layers")
            _build_level(job, table, missing, ranges, (few, reference))
    return table


def _build_level(
    job: Job,
    table: LevelTable,
    choices: Sequence[Choice],
    ranges: ActivationRanges,
    few: tuple[Dataset, Outputs],
) -> None:
    level = choices[0].level
    running = [choice for choice in choices if choice.runs]
    for choice in choices:
        if not choice.runs:
            table.put(Cell(layer=choice.layer.name, level=level, searched=False,
                           reason=choice.reason))  # fmt: skip
    if not running:
        return
    weights = {c.layer.name: compress(job, c.layer, level) for c in running}
    uniform = _lower(job, table, dict.fromkeys(weights, level), ranges, "uniform", weights)
    executed = job.engines.backend.executed_layers(uniform, job.graph)
    seconds = _attributed_seconds(job, uniform)
    for number, choice in enumerate(running, start=1):
        name = choice.layer.name
        runs_as = executed.get(name)
        reason = choice.reason
        if not reason and runs_as is not None and _expected(level) != runs_as.precision:
            reason = f"{name}: the runtime executes {level} as {runs_as.kernel}, no faster"
        searched = choice.searched and not reason
        divergence = None
        if level.is_baseline:
            divergence = 0.0
        elif searched:
            flipped = _lower(job, table, {name: level}, ranges, "flip", weights)
            divergence = output_divergence(_answer(job, flipped, few[0]), few[1])
        dense = job.graph.weight(choice.layer)
        cell = Cell(
            layer=name, level=level, searched=searched, reason=reason,
            sparsity=weights[name].sparsity,
            weight_error=_relative_error(weights[name], choice.layer.to_matrix(dense)),
            divergence=divergence,
            seconds=seconds.get(runs_as.node) if runs_as else None,
            kernel=runs_as.kernel if runs_as else "",
        )  # fmt: skip
        table.put(cell, weights[name] if searched and not level.is_baseline else None)
        job.engines.progress.step(number, len(running), name)


def compress(job: Job, layer: Layer, level: Level) -> CompressedWeight:
    """One layer's weight at one level."""
    matrix = layer.to_matrix(job.graph.weight(layer))
    if level.is_baseline or level.method is None:
        return CompressedWeight(values=matrix)
    # a copy: the file's own arrays are read-only
    return METHODS.load(level.method).compress(layer, torch.tensor(matrix), level, NO_STATISTICS)


def lower_recipe(
    job: Job, table: LevelTable, recipe: Recipe, ranges: ActivationRanges, name: str
) -> LoweredModel:
    """Stitch a recipe from the table's weights and lower it.

    Raises:
        CompileError: a weight is not in the table, or the backend cannot lower the recipe.
    """
    weights = {
        layer: table.weight(layer, level)
        for layer, level in recipe.levels.items()
        if not level.is_baseline and table.has_weight(layer, level)
    }
    missing = set(recipe.compressed_layers) - set(weights)
    if missing:
        raise CompileError(f"the level table has no weight for {sorted(missing)[0]}")
    request = LoweringRequest(job.graph, recipe, weights, ranges)
    return job.engines.backend.lower(request, job.workspace.scratch(name))


def _lower(
    job: Job,
    table: LevelTable,
    levels: Mapping[str, Level],
    ranges: ActivationRanges,
    name: str,
    weights: Mapping[str, CompressedWeight] | None = None,
) -> LoweredModel:
    """Lower the dense model with some layers at another level."""
    recipe = Recipe(
        model_sha256=job.graph.sha256,
        levels={la.name: levels.get(la.name, BASELINE) for la in job.graph.layers},
    )
    request = LoweringRequest(job.graph, recipe, weights or {}, ranges)
    return job.engines.backend.lower(request, job.workspace.scratch(name))


def _answer(job: Job, model: LoweredModel, data: Dataset) -> Outputs:
    return job.answer(model, data)


def output_divergence(outputs: Outputs, reference: Outputs) -> float:
    """Mean relative error of the outputs: cheap, needs no labels, comparable across models."""
    return float(BUILT_IN["relative_error"].score(outputs, reference, None).mean())


def _attributed_seconds(job: Job, model: LoweredModel) -> dict[str, float]:
    """Executed node -> its share of the file's measured latency.

    A runtime's profiler slows every node a little and rounds; its times are used as shares of
    the latency that was measured without it.
    """
    timed = measure_patiently(job, {BASELINE_LABEL: job.original, "uniform": model}, _QUICK)
    total = timed["uniform"].percentile_seconds("p50")
    times = job.engines.lane.profile(model, job.workspace.inputs, job.target, runs=_PROFILE_RUNS)
    profiled = sum(time.seconds for time in times)
    scale = total / profiled if profiled > 0 else 0.0
    return {time.node: time.seconds * scale for time in times}


def _expected(level: Level) -> str:
    return "int8" if level.precision is Precision.INT8 else "fp32"


def _relative_error(weight: CompressedWeight, dense: FloatMatrix) -> float:
    norm = float((dense.astype(np.float64) ** 2).sum()) or 1.0
    return float(((weight.values.astype(np.float64) - dense) ** 2).sum()) / norm
