"""Models on CIFAR-10 images: two trained ResNets as files, and a MobileNetV2-like CNN made here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autosparse.datasets import Dataset
from benchmarks.model_files import (
    ModelFiles,
    ModelRequest,
    UnavailableError,
    asset,
    write_parts,
)
from benchmarks.onnx_export import export_onnx

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STEPS, _BATCH = 150, 32
# expansion, output channels, stride of each inverted residual block
_BLOCKS = (
    (1, 16, 2), (4, 24, 1), (4, 24, 1), (4, 32, 1), (4, 32, 1), (4, 64, 2), (4, 64, 1),
    (4, 96, 1), (4, 96, 1),
)  # fmt: skip
_STEM, _HEAD, _CLASSES = 32, 256, 10

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """Normalized images, channels first, and their classes."""

    images: Floats
    labels: Classes


def read_images(path: Path, rows: slice) -> Images:
    """Rows of one of the data files, normalized as the models were trained."""
    with np.load(path, allow_pickle=False) as file:
        pixels, labels = file["images"][rows], file["labels"][rows]
    return Images(normalized(pixels), labels)


def normalized(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Images (rows, 32, 32, 3) as the models read them: channels first, centred and scaled."""
    scaled = pixels.astype(np.float32) / 255
    scaled = (scaled - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def resnet(request: ModelRequest, depth: int) -> ModelFiles:
    """A trained ResNet from the assets."""
    model = asset(request, f"models/resnet{depth}.onnx")
    return _with_images(request, f"resnet{depth}", model, "input")


def mobilenet(request: ModelRequest) -> ModelFiles:
    """A MobileNetV2-like CNN, trained for a minute where there are images."""
    torch.manual_seed(0)
    network = MobileNet()
    try:
        train = read_images(asset(request, "data/cifar10_train.npz"), slice(0, None))
        train_classifier(network, train)
    except UnavailableError:
        _settle_norms(network)
    example = {"image": torch.randn(2, 3, 32, 32)}
    path = export_onnx(
        network, example, "logits", request.directory / "mobilenet.onnx", {0: "batch"}
    )
    return _with_images(request, "mobilenet", path, "image")


def image_rows(request: ModelRequest) -> tuple[Floats, Floats, Classes | None]:
    """Calibration images, the validation images with what is held out behind them, and its classes.

    Noise, which has no classes, takes their place where the assets are missing: a divergence needs
    no meaning.
    """
    sizes = request.sizes
    wanted = sizes.validation + sizes.held_out
    try:
        calibration = read_images(
            asset(request, "data/cifar10_train.npz"), slice(0, sizes.calibration)
        )
        rest = read_images(asset(request, "data/cifar10_valid.npz"), slice(0, wanted))
    except UnavailableError:
        noise = np.random.default_rng(0).standard_normal((sizes.calibration + wanted, 3, 32, 32))
        images = noise.astype(np.float32)
        return images[: sizes.calibration], images[sizes.calibration :], None
    return calibration.images, rest.images, rest.labels


def _with_images(request: ModelRequest, name: str, model: Path, source: str) -> ModelFiles:
    calibration, rest, classes = image_rows(request)
    middle = request.sizes.validation
    paths = write_parts(request.directory, {source: calibration}, {source: rest[:middle]})
    labels = None if classes is None else classes[middle:]
    return ModelFiles(
        name=name,
        onnx=model,
        calibration=paths[0],
        validation=paths[1],
        held_out=Dataset(inputs={source: rest[middle:]}, labels=labels),
        metric="kl",
        labels_metric="" if labels is None else "top1",
    )


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter every channel by a 3x3, project by a 1x1."""

    def __init__(self, cin: int, cout: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = cin * expansion
        expand = [nn.Conv2d(cin, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        self.layers = nn.Sequential(
            *(expand if expansion > 1 else []),
            nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )
        self.joins = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(batch, cin, h, w) -> (batch, cout, h / stride, w / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.joins else y


class MobileNet(nn.Module):
    """Inverted residual blocks for 32x32 images."""

    def __init__(self) -> None:
        super().__init__()
        width = _STEM
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(),
        ]  # fmt: skip
        for expansion, cout, stride in _BLOCKS:
            layers.append(InvertedResidual(width, cout, expansion, stride))
            width = cout
        layers += [nn.Conv2d(width, _HEAD, 1, bias=False), nn.BatchNorm2d(_HEAD), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(_HEAD, _CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, 32, 32) -> logits (batch, 10)."""
        logits: Tensor = self.classifier(self.features(image).mean(dim=(2, 3)))
        return logits


def train_classifier(network: nn.Module, data: Images, steps: int = _STEPS) -> None:
    """A short training: enough for activations that are no noise, far from the best accuracy."""
    network.train()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(images), (_BATCH,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()


def _settle_norms(network: nn.Module, batches: int = 20) -> None:
    """Give the batch norms statistics of noise: untrained ones would let activations die out."""
    network.train()
    with torch.no_grad():
        for _ in range(batches):
            network(torch.randn(_BATCH, 3, 32, 32))
    network.eval()
