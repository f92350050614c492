"""A backend whose latency and errors are planted, so that the right answer is known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autosparse.calibration import ActivationGrid, ActivationRanges
from autosparse.errors import CompileError, MeasurementError
from autosparse.evaluation import (
    Capability,
    ExecutedLayer,
    LoweredModel,
    LoweringRequest,
    Target,
)
from autosparse.evaluation.backend import Array, NodeTime
from autosparse.levels import BASELINE, Level, Precision
from autosparse.model_graph import Layer, ModelGraph

Levels = Mapping[str, Level]
CLASSES = 4
_PLANS = "plans.json"


def is_int8(level: Level) -> bool:
    return level.precision is Precision.INT8


@dataclass
class Planted:
    """What the fake world is like.

    `seconds` is a layer's latency at a level, `joint_seconds` what a whole recipe adds on top;
    `error` is how far a recipe's outputs are from the dense model's.
    """

    seconds: Callable[[str, Level], float]
    error: Callable[[Levels], float]
    joint_seconds: Callable[[Levels], float] = lambda levels: 0.0
    broken: Callable[[Levels], str] = lambda levels: ""
    """Why the recipe cannot be lowered; empty where it can."""
    size: Callable[[Levels], int] = lambda levels: 0
    """Bytes of the lowered file, where they are more than what it says of itself."""
    memory: Callable[[Levels], int | None] = lambda levels: None
    """Peak memory in bytes; None where it is not measured."""

    def latency(self, levels: Levels) -> float:
        return sum(self.seconds(n, level) for n, level in levels.items()) + self.joint_seconds(
            levels
        )


class FakeRunner:
    """Logits of a fixed linear map, disturbed in a fixed direction."""

    def __init__(self, error: float) -> None:
        self._error = error

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = next(iter(inputs.values()))
        flat = rows.reshape(len(rows), -1).astype(np.float32)
        mixing = np.random.default_rng(7).standard_normal((flat.shape[1], CLASSES))
        wrong = np.random.default_rng(8).standard_normal((flat.shape[1], CLASSES))
        logits = flat @ (mixing + self._error * wrong)
        return {"logits": logits.astype(np.float32)}


class FakeProbe:
    """Every asked tensor as ones."""

    def __init__(self, graph: ModelGraph, tensors: Sequence[str]) -> None:
        self._tensors = {la.input: la.input_channels for la in graph.layers if la.input in tensors}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = len(next(iter(inputs.values())))
        ones = {n: np.ones((rows, k), dtype=np.float32) for n, k in self._tensors.items()}
        return {name: values for name, values in ones.items() if name not in inputs}


@dataclass
class FakeBackend:
    """Implements `Backend` on a planted world."""

    planted: Planted
    name: str = "fake"
    summary: str = "planted latencies and errors"
    delivers_onnx: bool = True
    lowered: list[str] = field(default_factory=list)
    offered: Sequence[str] = ()
    """Plans of every sparse level."""

    def capability(self, layer: Layer, level: Level, target: Target) -> Capability:
        return Capability.wins() if is_int8(level) else Capability.no_faster("planted: no faster")

    def plans(self, layer: Layer, level: Level) -> Sequence[str]:
        return self.offered if level.sparsity else ()

    def conversions(self, graph: ModelGraph, levels: Levels) -> dict[str, int]:
        names = list(levels)
        return {
            f"convert:{a}:{b}": 16
            for a, b in itertools.pairwise(names)
            if is_int8(levels[a]) != is_int8(levels[b])
        }

    def calibrated_tensors(self, graph: ModelGraph) -> Sequence[str]:
        return [layer.input for layer in graph.layers]

    def rounded_activations(
        self, graph: ModelGraph, levels: Levels, ranges: ActivationRanges
    ) -> list[ActivationGrid]:
        return []

    def probe(self, graph: ModelGraph, tensors: Sequence[str], threads: int) -> FakeProbe:
        return FakeProbe(graph, tensors)

    def lower(self, request: LoweringRequest, directory: Path) -> LoweredModel:
        reason = self.planted.broken(request.recipe.levels)
        if reason:
            raise CompileError(reason)
        self.lowered.append(request.recipe.id)
        levels = {name: str(level) for name, level in request.recipe.levels.items()}
        directory.mkdir(parents=True, exist_ok=True)
        size = self.planted.size(request.recipe.levels)
        (directory / "model.onnx").write_text(json.dumps(levels).ljust(size))
        (directory / _PLANS).unlink(missing_ok=True)
        if request.plans:
            (directory / _PLANS).write_text(json.dumps(dict(request.plans)))
        return LoweredModel(directory, "model.onnx")

    def open(self, model: LoweredModel, *, threads: int) -> FakeRunner:
        levels = read_levels(model)
        return FakeRunner(self.planted.error(levels) if levels else 0.0)

    def executed_layers(self, model: LoweredModel, graph: ModelGraph) -> dict[str, ExecutedLayer]:
        levels = read_levels(model)
        found = {}
        for layer in graph.layers:
            int8 = is_int8(levels.get(layer.name, BASELINE))
            found[layer.name] = ExecutedLayer(
                kernel="QGemm" if int8 else "Gemm",
                precision="int8" if int8 else "fp32",
                node=layer.name,
            )
        return found

    def node_times(
        self, model: LoweredModel, inputs: Mapping[str, Array], *, threads: int, runs: int
    ) -> Sequence[NodeTime]:
        raise MeasurementError("the fake lane profiles by itself")


def read_plans(model: LoweredModel) -> dict[str, str]:
    """Plans of a file that the fake lowered, by layer."""
    path = model.directory / _PLANS
    return dict(json.loads(path.read_text())) if path.exists() else {}


def read_levels(model: LoweredModel) -> dict[str, Level]:
    """Levels of a file that the fake lowered; none for the original model."""
    content = model.path.read_bytes()
    if not content.startswith(b"{"):
        return {}
    return {name: Level.parse(text) for name, text in json.loads(content).items()}
