"""The second opponent: INT8 everywhere, layers put back to fp32 in order of their sensitivity.

The files are lowered by our own backend, so that both sides run the same way. That helps the
opponent: ONNX Runtime quantizes a float Conv or Gemm that stands between two integer tensors by
itself, and our lowering guards the layers that were put back against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autosparse.evaluation import LoweredModel, LoweringRequest
from autosparse.evaluation.sample import whole
from autosparse.levels import BASELINE, Level, Recipe
from autosparse.levels.weights import CompressedWeight
from autosparse.pipeline.job import first_rows
from autosparse.pipeline.lowering import compress
from autosparse.pipeline.recipe_timing import TRIAL_TIMING
from autosparse.pipeline.verification import VERIFY_TIMING
from benchmarks.opened_job import OpenedJob
from benchmarks.patience import latency_ratios

NAME = "greedy INT8/fp32 mix"
_INT8 = Level.parse("dense:int8+round_to_nearest")
_SENSITIVITY_ROWS = 64
_FILES_AT_ONCE = 8
# As often as a job verifies: a step measured just inside may come out just outside.
_MOST_CHECKS = 6


@dataclass(frozen=True)
class Step:
    """INT8 everywhere but at the first so many of the sensitive layers."""

    reverted: tuple[str, ...]
    model: LoweredModel
    ratio: float
    """Measured latency over the baseline's."""


@dataclass(frozen=True)
class GreedyLadder:
    """Every step from INT8 everywhere to the model as it came, measured."""

    integer_layers: int
    steps: tuple[Step, ...]

    def within(self, bound: float) -> Iterator[Step]:
        """Steps inside a budget, the one with the most fp32 layers first."""
        for step in reversed(self.steps):
            if step.ratio <= bound:
                yield step

    def best_within(self, opened: OpenedJob, bound: float) -> Step | None:
        """The most accurate step whose latency, measured again in a fresh process, is inside."""
        for step, _ in zip(self.within(bound), range(_MOST_CHECKS), strict=False):
            again = latency_ratios(opened.job, {"step": step.model}, VERIFY_TIMING, fresh=True)
            if again["step"] <= bound:
                return step
        return None


def build_ladder(opened: OpenedJob, directory: Path) -> GreedyLadder:
    """Lower and time every step.

    Raises:
        CandidateError: INT8 everywhere cannot be lowered or timed.
    """
    job = opened.job
    layers = [
        layer
        for layer in job.graph.layers
        if opened.backend.capability(layer, _INT8, job.target).runs
    ]
    weights = {la.name: compress(job, la, _INT8, opened.calibration) for la in layers}
    order = _most_sensitive_first(opened, weights, directory / "single")
    models: dict[int, LoweredModel] = {}
    for count in range(len(order) + 1):
        kept = {name: weights[name] for name in order[count:]}
        models[count] = _lower(opened, kept, directory / f"step{count}")
    ratios: dict[str, float] = {}
    labels = [str(count) for count in models]
    for start in range(0, len(labels), _FILES_AT_ONCE):
        some = labels[start : start + _FILES_AT_ONCE]
        files = {label: models[int(label)] for label in some}
        ratios.update(latency_ratios(job, files, TRIAL_TIMING))
    return GreedyLadder(
        integer_layers=len(order),
        steps=tuple(
            Step(tuple(order[:count]), model, ratios[str(count)]) for count, model in models.items()
        ),
    )


def _most_sensitive_first(
    opened: OpenedJob, weights: dict[str, CompressedWeight], directory: Path
) -> list[str]:
    """Layers by the divergence that each alone causes at INT8, on calibration rows."""
    job = opened.job
    rows = first_rows(job.calibration, _SENSITIVITY_ROWS)
    sample = whole(rows, job.answer(job.original, rows))
    divergence: dict[str, float] = {}
    for name, weight in weights.items():
        model = _lower(opened, {name: weight}, directory)
        divergence[name] = job.divergence(model, sample)
    return sorted(divergence, key=lambda name: -divergence[name])


def _lower(
    opened: OpenedJob, integer: dict[str, CompressedWeight], directory: Path
) -> LoweredModel:
    graph = opened.job.graph
    recipe = Recipe(
        model_sha256=graph.sha256,
        levels={la.name: _INT8 if la.name in integer else BASELINE for la in graph.layers},
        knobs=opened.bench.knobs,
    )
    ranges = opened.calibration.ranges.ranges("min_max")
    return opened.backend.lower(LoweringRequest(graph, recipe, integer, ranges), directory)


def describe(ladder: GreedyLadder, step: Step) -> str:
    """Name and size of one step, as it stands in a row."""
    left = ladder.integer_layers - len(step.reverted)
    return f"{NAME}, {left} of {ladder.integer_layers} layers INT8"
