"""Trainings of one model for the `methods` benchmark: from levels to the accuracy of a file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autosparse.calibration import ActivationRanges, RangeObserver, StatisticsObserver
from autosparse.datasets import Dataset
from autosparse.evaluation import LoweringRequest
from autosparse.levels import BASELINE, Level, Recipe
from autosparse.levels.weights import CompressedWeight
from autosparse.methods import METHODS
from autosparse.model_graph import ModelGraph, load_model
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.recovery import RECOVERIES, StatisticsCorrection
from autosparse.recovery.averaging import Subject, train
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.training import Outcome
from backends.onnxruntime_backend import OnnxRuntimeBackend
from benchmarks.cifar_models import Images, normalized, read_images
from benchmarks.model_files import UnavailableError

_JPEG = "cifar10_train_jpeg.npz"
_CALIBRATION, _BATCH = 256, 250
# The first layer and the classifier are small, and cost more accuracy than time.
_FEWEST_INPUTS = 4
Weights = Mapping[str, CompressedWeight]


@dataclass(frozen=True)
class Trained:
    """What one training came to."""

    accuracy: float
    """Of the lowered file."""
    outcome: Outcome


class RecoveryLab:
    """One model with its data.

    Args:
        assets: folder that holds `models/` and `data/`.
        model: `resnet20` or `resnet56`.
        rows: training images at most.
        validation: validation images at most.
        directory: for lowered files.

    Raises:
        UnavailableError: a file is not there.
    """

    def __init__(
        self, assets: Path, model: str, rows: int, validation: int, directory: Path
    ) -> None:
        path = assets / "models" / f"{model}.onnx"
        if not path.is_file():
            raise UnavailableError(f"there is no models/{path.name} in the folder of the assets")
        self.graph: ModelGraph = load_model(path)
        self._input = self.graph.inputs[0].name
        self._train = training_images(assets, rows)
        self._valid = read_images(assets / "data" / "cifar10_valid.npz", slice(0, validation))
        self._directory, self._backend = directory, OnnxRuntimeBackend()
        self._calibrate()
        self.dense = self.accuracy({}, {})

    def levels(self, level: Level) -> dict[str, Level]:
        """The level at every layer that it is meant for."""
        method = METHODS.load(_method(level))
        return {
            layer.name: level
            for layer in self.graph.layers
            if layer.operator == "Conv"
            and layer.input_channels >= _FEWEST_INPUTS
            and not method.why_not(layer, level)
        }

    def one_shot(self, levels: Mapping[str, Level]) -> Weights:
        """Solved and corrected weights."""
        weights = {}
        for name, level in levels.items():
            layer = self.graph.layer(name)
            matrix = torch.tensor(layer.to_matrix(self.graph.weight(layer)))
            statistics = self._statistics.statistics(name)
            method = METHODS.load(_method(level))
            weights[name] = method.compress(layer, matrix, level, statistics)
        return self._correction.correct(weights, set(weights))

    def train(
        self, levels: Mapping[str, Level], weights: Weights, method: str, plan: TrainingPlan
    ) -> Trained:
        """Train, lower, and evaluate the file."""
        chosen = self._every(levels)
        grids = self._backend.rounded_activations(self.graph, chosen, self._ranges)
        recovery = RECOVERIES.load(method)
        subject = Subject(self.graph, chosen, weights, recovery, tuple(grids))
        rows = Dataset({self._input: self._train.images}, self._train.labels)
        outcome = train(subject, rows, plan)
        return Trained(self.accuracy(levels, outcome.weights), outcome)

    def accuracy(self, levels: Mapping[str, Level], weights: Weights) -> float:
        """Share of validation images that the lowered file gets right."""
        recipe = Recipe(model_sha256=self.graph.sha256, levels=self._every(levels))
        request = LoweringRequest(self.graph, recipe, weights, self._ranges)
        runner = self._backend.open(self._backend.lower(request, self._directory), threads=1)
        right = 0
        for start in range(0, len(self._valid.images), _BATCH):
            rows = slice(start, start + _BATCH)
            answers = next(iter(runner.run({self._input: self._valid.images[rows]}).values()))
            right += int((answers.argmax(axis=1) == self._valid.labels[rows]).sum())
        return right / len(self._valid.images)

    def _every(self, levels: Mapping[str, Level]) -> dict[str, Level]:
        return {la.name: levels.get(la.name, BASELINE) for la in self.graph.layers}

    def _calibrate(self) -> None:
        """One pass over some training images: Hessians, ranges and moments."""
        names = tuple(layer.name for layer in self.graph.layers)
        self._statistics = StatisticsObserver(self.graph, self.graph.layers, hessians=names)
        ranges = RangeObserver("entropy")
        rows = self._train.images[:_CALIBRATION]
        ranged = set(self._backend.calibrated_tensors(self.graph))

        def observe(name: str, values: Tensor) -> None:
            array = values.numpy()
            if name in ranged:
                ranges.observe(name, array)
            if name in self._statistics.tensors:
                self._statistics.observe(name, array)

        observers = {
            name: partial(observe, name) for name in ranged | set(self._statistics.tensors)
        }
        with torch.no_grad():
            GraphModule.from_graph(self.graph)({self._input: torch.tensor(rows)}, observers)
        self._ranges: ActivationRanges = ranges.ranges()
        self._correction = StatisticsCorrection(
            self.graph, {self._input: rows[: _CALIBRATION // 2]}
        )


def training_images(assets: Path, rows: int) -> Images:
    """Training images: all of them from their JPEG copies where they are asked for.

    Raises:
        UnavailableError: the file, or Pillow for JPEG, is not there.
    """
    small, large = (assets / "data" / name for name in ("cifar10_train.npz", _JPEG))
    if not small.is_file():
        raise UnavailableError(f"there is no data/{small.name} in the folder of the assets")
    with np.load(small, allow_pickle=False) as file:
        if rows <= len(file["labels"]):
            return read_images(small, slice(0, rows))
    if not large.is_file():
        raise UnavailableError(f"there is no data/{large.name} in the folder of the assets")
    return _decoded(large, rows)


def _decoded(path: Path, rows: int) -> Images:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UnavailableError("decoding the training images needs the package pillow") from error
    with np.load(path, allow_pickle=False) as file:
        jpeg, offsets, labels = file["jpeg"], file["offsets"], file["labels"][:rows]
    pixels = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes())))
            for i in range(len(labels))
        ]
    )
    return Images(normalized(pixels), labels)


def _method(level: Level) -> str:
    return level.method or "alps"
