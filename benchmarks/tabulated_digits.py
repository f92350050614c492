"""The demo's CNN with every one of its 46,656 recipes evaluated: 6 layers at 6 levels.

Levels are simulated in torch: zeros by magnitude, int8 by rounding weights (per output channel) and
activations (per tensor). Recipes that begin alike share what is computed up to where they differ.
Latencies follow from the layers' multiplications and a cost of changing the number format between
neighbours; they are no measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autosparse.cli.digits_cnn import DigitsCnn, trained_digits
from autosparse.levels import Level, Precision
from benchmarks.tabulated import Floats, Tabulated, chain_latencies, every_point

OPTIONS = tuple(
    Level.parse(text)
    for text in (
        "dense:fp32", "dense:int8", "unstructured@0.5:int8", "unstructured@0.75:int8",
        "unstructured@0.9:fp32", "unstructured@0.95:fp32",
    )
)  # fmt: skip
_SPEEDS = np.array([1.0, 0.5, 0.42, 0.3, 0.22, 0.15])
# Seconds per multiplication and per converted element: only their ratio matters.
_MULTIPLICATION, _CONVERSION = 1e-11, 4e-10


@dataclass(frozen=True)
class _Step:
    """One layer with its batch norm folded in."""

    weight: Tensor
    bias: Tensor
    stride: int
    """0 for the classifier."""
    largest_input: float
    """Of the dense model, on the evaluated rows."""
    multiplications: int
    outputs: int

    def run(self, value: Tensor, weight: Tensor) -> Tensor:
        """The layer's result from its input (rows, channels, height, width)."""
        if not self.stride:
            return F.linear(value.mean(dim=(2, 3)), weight, self.bias)
        return F.relu(F.conv2d(value, weight, self.bias, self.stride, padding=1))

    def rounded_input(self, value: Tensor) -> Tensor:
        """On a grid of 256 points from 0 to the largest."""
        step = self.largest_input / 255
        return torch.clamp(torch.round(value / step), 0, 255) * step


def tabulated_digits(directory: Path, rows: int) -> Tabulated:
    """Train the CNN and evaluate every recipe; what lies in the directory already is taken.

    Args:
        directory: where the figures are kept.
        rows: images that divergences are averaged over.
    """
    torch.set_grad_enabled(False)
    try:
        with torch.enable_grad():
            model, images, _ = trained_digits()
        shown = images[-rows:]
        steps = _steps(model, shown)
        path = directory / f"digits-{rows}.npy"
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npy")
            np.save(partial, _divergences(steps, shown))
            partial.replace(path)
        return _table(steps, np.load(path))
    finally:
        torch.set_grad_enabled(True)


def _steps(model: DigitsCnn, images: Tensor) -> list[_Step]:
    found, value = [], images
    blocks = list(model.features)
    for conv, norm in zip(blocks[::3], blocks[1::3], strict=True):
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = conv.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
        largest, stride = float(value.max()), conv.stride[0]
        value = F.relu(F.conv2d(value, weight, bias, stride, padding=1))
        pixels = value.shape[2] * value.shape[3]
        found.append(
            _Step(weight, bias, stride, largest, weight.numel() * pixels, value[0].numel())
        )
    last = model.classifier
    largest = float(value.max())
    found.append(_Step(last.weight, last.bias, 0, largest, last.weight.numel(), last.out_features))
    return found


def _compressed(weight: Tensor, level: Level) -> Tensor:
    """Zeros by magnitude, then a grid of 255 points for each output channel."""
    count = int(level.sparsity * weight.numel())
    if count:
        bar = weight.abs().flatten().kthvalue(count).values
        weight = torch.where(weight.abs() > bar, weight, 0.0)
    if level.precision is not Precision.INT8:
        return weight
    matrix = weight.flatten(1)
    step = (matrix.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-12)
    return (torch.round(matrix / step) * step).view_as(weight)


def _divergences(steps: list[_Step], images: Tensor) -> Floats:
    """(recipes,): mean KL from the dense model's outputs."""
    weights = [[_compressed(step.weight, level) for level in OPTIONS] for step in steps]
    dense = images
    for step, options in zip(steps, weights, strict=True):
        dense = step.run(dense, options[0])
    log_dense = F.log_softmax(dense, dim=1)

    def below(layer: int, value: Tensor) -> Iterator[float]:
        if layer == len(steps):
            logs = F.log_softmax(value, dim=1)
            yield float((log_dense.exp() * (log_dense - logs)).sum(dim=1).mean())
            return
        rounded = steps[layer].rounded_input(value)
        for level, weight in zip(OPTIONS, weights[layer], strict=True):
            given = rounded if level.precision is Precision.INT8 else value
            yield from below(layer + 1, steps[layer].run(given, weight))

    return np.array(list(below(0, images)))


def _table(steps: list[_Step], divergences: Floats) -> Tabulated:
    points = every_point(len(steps), len(OPTIONS))
    work = np.array([step.multiplications * _MULTIPLICATION for step in steps])
    seconds = work[:, None] * _SPEEDS
    integer = np.array([level.precision is Precision.INT8 for level in OPTIONS])
    changes = (integer[:, None] != integer[None, :]).astype(np.float64)
    elements = np.array([step.outputs for step in steps[:-1]])
    borders = elements[:, None, None] * _CONVERSION * changes
    alone = len(OPTIONS) ** np.arange(len(steps) - 1, -1, -1)
    weight_errors = np.array(
        [
            [float((_compressed(s.weight, o) - s.weight).square().sum() / s.weight.square().sum())
             for o in OPTIONS]
            for s in steps
        ]
    )  # fmt: skip
    return Tabulated(
        layers=tuple(f"layer.{index}" for index in range(len(steps))),
        options=OPTIONS,
        seconds=seconds,
        errors=divergences[alone[:, None] * np.arange(len(OPTIONS))],
        weight_errors=weight_errors,
        latencies=chain_latencies(points, seconds, borders),
        divergences=divergences,
        weights=[step.weight.numpy() for step in steps],
    )
