"""The models of benchmarks of whole files: two built here, three that the `job` benchmark knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from autosparse.datasets import Dataset
from autosparse.evaluation.backend import Array
from benchmarks.benchmark import Request
from benchmarks.cifar_models import resnet
from benchmarks.model_files import ModelBuilder, ModelRequest, Sizes, UnavailableError
from benchmarks.random_networks import IMAGE_CHANNELS, IMAGE_SIZE, mobilenet_v1, resnet50
from benchmarks.sparse_files import Workload
from benchmarks.transformer_models import minilm

# ranges only: latency does not depend on what the activations are
_SIZES = Sizes(calibration=8, validation=2, held_out=2)
_CALIBRATION_IMAGES = 2


@dataclass(frozen=True)
class WholeModel:
    """One model, and data enough to quantize and to run it."""

    onnx: Path
    calibration: Dataset
    toolkit_operators: tuple[str, ...] | None = None
    """Operators that the toolkit's INT8 is restricted to; None for its own choice."""

    @property
    def one_inference(self) -> dict[str, Array]:
        """Inputs of one row."""
        return {name: rows[:1] for name, rows in self.calibration.inputs.items()}


Source = Callable[[Path, Path], WholeModel]
"""(assets, empty directory) -> the model."""


def _built(build: Callable[[Path], Path], assets: Path, directory: Path) -> WholeModel:
    del assets  # its weights are random
    shape = (_CALIBRATION_IMAGES, IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return WholeModel(build(directory / "model.onnx"), Dataset({"x": images}))


def _given(build: ModelBuilder, assets: Path, directory: Path) -> WholeModel:
    files = build(ModelRequest(assets, directory, _SIZES))
    with np.load(files.calibration, allow_pickle=False) as file:
        rows = {name: file[name] for name in file.files}
    return WholeModel(files.onnx, Dataset(rows), files.toolkit_operators)


MODELS: Mapping[str, Source] = {
    "resnet50": partial(_built, resnet50),
    "mobilenet": partial(_built, mobilenet_v1),
    "minilm": partial(_given, minilm),
    "resnet56": partial(_given, partial(resnet, depth=56)),
    "resnet20": partial(_given, partial(resnet, depth=20)),
}


@dataclass(frozen=True)
class OpenedModel:
    """A model of one run, loaded, in a directory of its own."""

    given: WholeModel
    work: Workload
    inputs: Path
    """One inference's inputs."""
    directory: Path


def open_model(request: Request, name: str) -> OpenedModel:
    """Build or find a model and load it.

    Raises:
        UnavailableError: there is no such model, or its files are not there.
    """
    if name not in MODELS:
        raise UnavailableError(f"no such model; known: {', '.join(MODELS)}")
    directory = request.directory / name
    (directory / "given").mkdir(parents=True)
    request.say(f"{name}: model and data")
    given = MODELS[name](request.assets, directory / "given")
    work = Workload.load(given.onnx, given.one_inference)
    inputs = directory / "inputs.npz"
    np.savez(inputs, **given.one_inference)  # type: ignore[arg-type]
    return OpenedModel(given, work, inputs, directory)
