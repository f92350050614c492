"""The demo's model: a small CNN on scikit-learn's bundled digits, trained in seconds."""

from __future__ import annotations

import itertools
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

_EPOCHS = 8
_BATCH = 64
_TRAINING_ROWS = 1100
_CALIBRATION_ROWS = 256


class DigitsCnn(nn.Module):
    """Five convolutions with batch norms, and a classifier: six layers."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, 32, 64, 64, 128, 128]
        blocks: list[nn.Module] = []
        for index, (cin, cout) in enumerate(itertools.pairwise(widths)):
            stride = 2 if index == 3 else 1
            blocks += [
                nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(cout),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(widths[-1], 10)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 1, 16, 16) -> logits (batch, 10)."""
        pooled = self.features(image).mean(dim=(2, 3))
        return self.classifier(pooled)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class DemoFiles:
    """What `autosparse optimize` needs, as files."""

    model: Path
    calibration: Path
    validation: Path


def make_demo_files(directory: Path, seed: int = 0) -> DemoFiles:
    """Train the CNN and write the model and its data."""
    model, images, labels = trained_digits(seed)
    directory.mkdir(parents=True, exist_ok=True)
    files = DemoFiles(
        directory / "digits.onnx", directory / "calibration.npz", directory / "validation.npz"
    )
    _export(model, images[:2], files.model)
    np.savez(files.calibration, image=images[:_CALIBRATION_ROWS].numpy())
    np.savez(
        files.validation,
        image=images[_TRAINING_ROWS:].numpy(),
        labels=labels[_TRAINING_ROWS:].numpy(),
    )
    return files


def trained_digits(seed: int = 0) -> tuple[DigitsCnn, Tensor, Tensor]:
    """The trained CNN, and all images and labels; it has not seen the last rows."""
    torch.manual_seed(seed)
    images, labels = _digits(seed)
    model = _train(DigitsCnn(), images[:_TRAINING_ROWS], labels[:_TRAINING_ROWS])
    return model, images, labels


def _digits(seed: int) -> tuple[Tensor, Tensor]:
    """Shuffled images (1797, 1, 16, 16) in [0, 1] and their labels (1797,)."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    small = data.images[order].astype(np.float32) / 16
    images = torch.from_numpy(small)[:, None].repeat_interleave(2, 2).repeat_interleave(2, 3)
    return images.contiguous(), torch.from_numpy(data.target[order].astype(np.int64))


def _train(model: DigitsCnn, images: Tensor, labels: Tensor) -> DigitsCnn:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    steps = _EPOCHS * (len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss()
    for _ in range(_EPOCHS):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - _BATCH + 1, _BATCH):
            rows = order[start : start + _BATCH]
            optimizer.zero_grad()
            loss_of(model(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def _export(model: DigitsCnn, example: Tensor, path: Path) -> None:
    # it lists optional packages that this model does not use
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # the exporter trips over its own deprecations; nothing here can be done about them
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, (example,), input_names=["image"], output_names=["logits"], dynamo=True,
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}}, verbose=False,
        )  # fmt: skip
    if program is None:
        raise RuntimeError("torch exported nothing")
    program.save(str(path))
