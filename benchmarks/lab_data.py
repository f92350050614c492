"""What a recovery lab works on: a model, rows to learn from, and rows that judge."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autosparse.datasets import Augmentation, Dataset
from autosparse.evaluation.metrics import BUILT_IN, Metric
from autosparse.model_graph import ModelGraph, load_model
from autosparse.recovery.plan import TrainingPlan
from benchmarks.cifar_models import Images, normalized, read_images
from benchmarks.model_files import Array, UnavailableError

_JPEG = "cifar10_train_jpeg.npz"
_CALIBRATION = 256


@dataclass(frozen=True)
class LabData:
    """One model with its rows, and how it is trained and judged."""

    onnx: Path
    graph: ModelGraph
    train: Dataset
    calibration: Mapping[str, Array]
    judging: Dataset
    metric: Metric
    operators: tuple[str, ...]
    """Of the layers that are compressed."""
    batch: int
    """Rows of an inference when the model is judged."""
    step: int
    """Rows in a step of a training."""
    logits: bool
    """Whether what the model answers are logits."""
    augment: tuple[Augmentation, ...] = ()

    def plan(self, seconds: float, seed: int, steps: int | None = None) -> TrainingPlan:
        """A training on these rows."""
        return TrainingPlan(
            seconds=seconds, steps=steps, batch_size=self.step, seed=seed, logits=self.logits,
            augment=self.augment,
        )  # fmt: skip


@dataclass(frozen=True)
class LabRequest:
    """What data are made from."""

    assets: Path
    model: str
    directory: Path
    """For files that are made."""
    rows: int
    """To train on, at most."""
    judging: int
    """Rows that judge, at most."""


def image_data(request: LabRequest) -> LabData:
    """A ResNet for CIFAR-10, judged by its top-1 accuracy.

    Raises:
        UnavailableError: a file is not there.
    """
    path = request.assets / "models" / f"{request.model}.onnx"
    if not path.is_file():
        raise UnavailableError(f"there is no models/{path.name} in the folder of the assets")
    graph = load_model(path)
    name = graph.inputs[0].name
    train = _training_images(request.assets, request.rows)
    valid = read_images(request.assets / "data" / "cifar10_valid.npz", slice(0, request.judging))
    return LabData(
        onnx=path,
        graph=graph,
        train=Dataset({name: train.images}, train.labels),
        calibration={name: train.images[:_CALIBRATION]},
        judging=Dataset({name: valid.images}, valid.labels),
        metric=BUILT_IN["top1"],
        # the classifier is small, and costs more accuracy than time
        operators=("Conv",),
        batch=250, step=64, logits=True, augment=("flip", "shift"),
    )  # fmt: skip


def _training_images(assets: Path, rows: int) -> Images:
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
