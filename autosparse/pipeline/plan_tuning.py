"""Plans of a backend tried for the layers of one shape at one level: what wins stays, with proof.

A layer of that shape stands alone in files that differ in its plan only, all timed in turns. The
best of several always looks better than it is; so it is timed once more beside the usual plan
alone, and that run decides: unless its whole interval is faster, the usual plan stays. A layer
alone finds its weights in the cache, which it may not in a model: all plans of a level are last
held against none of them in the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from autosparse.calibration import NO_STATISTICS, ActivationRanges
from autosparse.datasets import Dataset
from autosparse.errors import CompileError
from autosparse.evaluation import (
    Comparison,
    LoweredModel,
    LoweringRequest,
    Target,
    TimingSettings,
)
from autosparse.journal import Journal
from autosparse.levels import Level, Recipe
from autosparse.levels.atlas import LayerShape, Place, Tuning
from autosparse.levels.weights import CompressedWeight
from autosparse.methods import METHODS
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.single_layer import SINGLE_INPUT, single_layer
from autosparse.pipeline.job import write_timing_inputs
from autosparse.pipeline.layer_choices import Choice, usual_method
from autosparse.pipeline.layer_shapes import observe_layers
from autosparse.pipeline.profiled_model import ProfiledModel
from autosparse.pipeline.stopwatch import Stopwatch

PLANS_FILE = "plan_measurements.jsonl"
USUAL = "usual"
"""Label of a file in which every layer is computed as usual."""
_INPUTS = "inputs.npz"
_EVERY_PLAN = TimingSettings(rounds=5, block_seconds=0.02, max_seconds=15.0)
_THE_BEST = TimingSettings(rounds=10, block_seconds=0.03, max_seconds=15.0)


class PlanMeasurement(BaseModel):
    """One shape at one level: what every plan came to, and raw samples of the best one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    place: Place
    shape: LayerShape
    level: Level
    ratios: dict[str, float]
    """Plan -> its latency over the usual one's, in the run of all."""
    best: str
    """The plan that was timed again."""
    decision: Comparison
    """The usual plan and the best one, in a run of their own."""


@dataclass(frozen=True)
class PlanTuner:
    """What trying plans on one target shares."""

    model: ProfiledModel
    place: Place
    raw: Journal[PlanMeasurement]

    def tune(self, choice: Choice, shape: LayerShape, plans: Sequence[str]) -> Tuning | None:
        """Time plans of a level for a shape; None where there is nothing to choose from.

        Args:
            choice: a layer of the shape, at the level.
            shape: what its latency depends on.
            plans: what the backend offers.

        Raises:
            CandidateError: the level does not run alone as usual, or could not be timed.
            ModelError: the layer cannot stand alone.
        """
        if shape.input_shape is None:
            return None
        alone = _Alone.of(self.model, choice, shape.input_shape)
        files = alone.lowered(plans)
        timed = alone.stopwatch.measure(files, _EVERY_PLAN)
        against = {
            plan: Comparison(baseline=timed[USUAL], candidate=found).ratio("p50")
            for plan, found in timed.items()
            if plan != USUAL
        }
        if not against:
            return None
        best = min(against, key=against.__getitem__)
        decision = _held_against(alone.stopwatch, files[USUAL], files[best])
        self.raw.append(
            PlanMeasurement(
                place=self.place, shape=shape, level=choice.level.without_method(),
                ratios=against, best=best, decision=decision,
            )
        )  # fmt: skip
        interval = decision.ratio_interval("p50")
        return Tuning(
            tried=len(against), plan=best if interval.high < 1.0 else "",
            ratio=decision.ratio("p50"), low=interval.low, high=interval.high,
        )  # fmt: skip

    def pay_together(self, usual: LoweredModel, planned: LoweredModel) -> bool:
        """Whether a whole model is faster with its layers' plans than without.

        Raises:
            MeasurementError: a file could not be timed.
        """
        return _held_against(self.model.stopwatch, usual, planned).ratio("p50") < 1.0


@dataclass(frozen=True)
class _Alone:
    """One layer as a model of its own, compressed."""

    model: ProfiledModel
    graph: ModelGraph
    level: Level
    weight: CompressedWeight
    ranges: ActivationRanges
    directory: Path
    """Where its files lie; the next layer's take their place."""
    target: Target
    """Where it is timed, in the shape of its own input."""

    @classmethod
    def of(cls, model: ProfiledModel, choice: Choice, input_shape: tuple[int, ...]) -> _Alone:
        directory = model.scratch / "alone"
        directory.mkdir(exist_ok=True)
        graph = single_layer(model.graph, choice.layer, input_shape, directory / "layer.onnx")
        drawn = np.random.default_rng(0).standard_normal(input_shape).astype(np.float32)
        inputs = {SINGLE_INPUT: drawn}
        target = model.target.model_copy(update={"input_shapes": {SINGLE_INPUT: input_shape}})
        write_timing_inputs(directory / _INPUTS, Dataset(inputs=inputs), target)
        _, ranges = observe_layers(graph, model.engines.backend, [inputs])
        weight = plainly_compressed(graph, replace(choice, layer=graph.layers[0]))
        return cls(model, graph, choice.level, weight, ranges, directory, target)

    @property
    def stopwatch(self) -> Stopwatch:
        own = self.directory / _INPUTS
        return replace(self.model.stopwatch, target=self.target, inputs=own)

    def lowered(self, plans: Sequence[str]) -> dict[str, LoweredModel]:
        """Plan -> file, the usual one first; a plan that does not compile is left out."""
        files = {USUAL: self._lower({}, USUAL)}
        (layer,) = self.graph.layers
        for number, plan in enumerate(plans):
            try:
                files[plan] = self._lower({layer.name: plan}, str(number))
            except CompileError as error:
                self.model.engines.progress.note(f"the plan {plan} is left out: {error}")
        return files

    def _lower(self, plans: Mapping[str, str], name: str) -> LoweredModel:
        (layer,) = self.graph.layers
        recipe = Recipe(model_sha256=self.graph.sha256, levels={layer.name: self.level})
        request = LoweringRequest(
            self.graph, recipe, {layer.name: self.weight}, self.ranges,
            self.target.architecture, self.target.input_shapes, plans=plans,
        )  # fmt: skip
        return self.model.engines.backend.lower(request, self.directory / name)


def plainly_compressed(graph: ModelGraph, choice: Choice) -> CompressedWeight:
    """The plainest method: a latency depends on how many zeros there are, hardly on where."""
    layer, level = choice.layer, choice.level
    matrix = layer.to_matrix(graph.weight(layer))
    method = METHODS.load(usual_method(level))
    # a copy: the file's own arrays are read-only
    return method.compress(layer, torch.tensor(matrix), level, NO_STATISTICS)


def _held_against(stopwatch: Stopwatch, usual: LoweredModel, other: LoweredModel) -> Comparison:
    timed = stopwatch.measure({USUAL: usual, "other": other}, _THE_BEST)
    return Comparison(baseline=timed[USUAL], candidate=timed["other"])
