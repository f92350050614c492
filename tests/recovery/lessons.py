"""Small trainings: a residual CNN as teacher, its sparse copy as student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autosparse.calibration import NO_STATISTICS, ActivationGrid
from autosparse.datasets import Dataset
from autosparse.levels import Level
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.magnitude import Magnitude
from autosparse.methods.round_to_nearest import RoundToNearest
from autosparse.model_graph import Layer, ModelGraph, load_model
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.recovery import Recovery
from autosparse.recovery.averaging import train
from autosparse.recovery.members import Subject, Watch
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.student import Student
from autosparse.recovery.trained_layer import TrainedLayer
from autosparse.recovery.training import Outcome, Training
from autosparse.recovery.training_data import TrainingData
from tests.models import Array, Floats, Net, images

QUICK = TrainingPlan(
    seconds=600.0,
    steps=24,
    batch_size=32,
    arithmetic="fp32",
    evaluations=4,
    temperature=1.0,
    learning_rate=0.05,
)
_GROUPS, _LOUD = 4, 2.0
Weights = Mapping[str, CompressedWeight]


def rows_of(count: int = 200) -> Dataset:
    """Images that the teacher has an answer to; labels that nothing depends on."""
    labels = np.random.default_rng(0).integers(0, 10, count)
    return Dataset({"image": images(count)}, labels)


def levels_of(graph: ModelGraph, level: str) -> dict[str, Level]:
    """The level at every layer that can have it."""
    wanted = Level.parse(level)
    method = Magnitude() if wanted.sparsity else RoundToNearest()
    return {la.name: wanted for la in graph.layers if not method.why_not(la, wanted)}


def weights_of(graph: ModelGraph, levels: Mapping[str, Level]) -> dict[str, CompressedWeight]:
    """The weights of these levels, by the plainest method."""
    return {
        name: (Magnitude() if level.sparsity else RoundToNearest()).compress(
            graph.layer(name),
            torch.tensor(graph.layer(name).to_matrix(graph.weight(graph.layer(name)))),
            level,
            NO_STATISTICS,
        )
        for name, level in levels.items()
    }


def student_of(
    graph: ModelGraph, level: str, recovery: Recovery, grids: Sequence[ActivationGrid] = ()
) -> Student:
    """A student at the start of its training."""
    levels = levels_of(graph, level)
    return Student(graph, levels, weights_of(graph, levels), recovery, grids)


def lesson(
    graph: ModelGraph,
    level: str,
    recovery: Recovery,
    *,
    checkpoint: Path | None = None,
    watch: Watch | None = None,
    grids: Sequence[ActivationGrid] = (),
    **plan: Any,
) -> Outcome:
    """One whole training."""
    asked = QUICK.model_copy(update=plan)
    levels = levels_of(graph, level)
    subject = Subject(graph, levels, weights_of(graph, levels), recovery, grids)
    return train(subject, rows_of(), asked, checkpoint, watch)


def answers(graph: ModelGraph, weights: Weights, inputs: Mapping[str, Array]) -> Floats:
    """The first output with these weights and biases."""
    module = GraphModule.from_graph(graph)
    with torch.no_grad():
        for name, weight in weights.items():
            stored = graph.layer(name).from_matrix(weight.values)
            module.set_layer_weight(name, torch.tensor(stored))
            bias = module.layer_bias(name)
            if bias is not None and weight.bias is not None:
                bias.copy_(torch.tensor(weight.bias))
        outputs = module({name: torch.tensor(array) for name, array in inputs.items()})
    return np.asarray(next(iter(outputs.values())).numpy(), dtype=np.float32)


def planted_graph(directory: Path) -> ModelGraph:
    """In every group of four inputs the first two are the same, and both weights the smallest.

    What matters most comes in twice, each time with a small weight: magnitude prunes both, although
    one of them, twice as large, would do for the two.
    """
    net = Net(seed=3)
    x = net.input("x", "batch", 4 * _GROUPS)
    signs = net.rng.choice([-1.0, 1.0], (8, 4 * _GROUPS))
    signs[:, 1::4] = signs[:, ::4]
    weight = signs * np.tile([0.45, 0.45, 0.6, 0.6], _GROUPS)
    net.node("Gemm", x, net.constant("fc.weight", weight.astype(np.float32)), name="fc",
             to="y", transB=1)  # fmt: skip
    return load_model(net.save(directory / "net.onnx", "y"))


def planted_rows() -> Dataset:
    """Rows in which the inputs that come in twice are the loud ones."""
    rows = np.random.default_rng(4).standard_normal((400, 4 * _GROUPS)).astype(np.float32)
    rows[:, ::4] *= _LOUD
    rows[:, 1::4] = rows[:, ::4]
    return Dataset({"x": rows})


def trained(
    graph: ModelGraph,
    recovery: Recovery,
    level: str = "2:4:fp32",
    steps: int = 400,
    weights: Weights | None = None,
) -> Outcome:
    """A whole training on the planted layer, from magnitude's weights unless others are given."""
    plan = TrainingPlan(
        seconds=600.0, steps=steps, batch_size=64, logits=False, learning_rate=0.02,
        arithmetic="fp32", optimizer="adamw", patience=100, weight_decay=0.0,
    )  # fmt: skip
    levels = {"fc": Level.parse(level)}
    student = Student(graph, levels, weights or weights_of(graph, levels), recovery)
    return Training(graph, student, TrainingData(planted_rows(), 64, 0), plan).run()


def one_layer(recovery: Recovery, level: str = "2:4:fp32") -> TrainedLayer:
    """A layer with random weights, at the start of a training."""
    described = Layer("fc", "n", "Gemm", "x", "y", "w", (16, 16), None, transposed=True)
    weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    layer = TrainedLayer(described, Level.parse(level), weight, None, None)
    recovery.prepare([layer])
    return layer
