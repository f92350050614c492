"""A small network in the manner of EfficientNet, and its export by either of torch's exporters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE, CLASSES = 16, 10
WIDE = 16
"""Channels of a block's depthwise convolution."""


def conv_norm(
    cin: int, cout: int, size: int, *, stride: int = 1, groups: int = 1, activates: bool = True
) -> nn.Sequential:
    """A convolution, its batch norm with statistics as if it were trained, and SiLU."""
    norm = nn.BatchNorm2d(cout)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    conv = nn.Conv2d(cin, cout, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, norm, *([nn.SiLU()] if activates else []))


class SqueezeExcite(nn.Module):
    """Scales each channel by what all channels are on average."""

    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, narrow, 1), nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.expand(functional.silu(self.reduce(self.pool(x)))))
        return x * gate


class Block(nn.Module):
    """Expand, depthwise, squeeze and excite, project; with a residual where shapes allow."""

    def __init__(self, cin: int, cout: int, size: int, stride: int) -> None:
        super().__init__()
        self.expand = conv_norm(cin, WIDE, 1)
        self.depthwise = conv_norm(WIDE, WIDE, size, stride=stride, groups=WIDE)
        self.gate = SqueezeExcite(WIDE, 4)
        self.project = conv_norm(WIDE, cout, 1, activates=False)
        self.adds = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.project(self.gate(self.depthwise(self.expand(x))))
        return x + made if self.adds else made


class EfficientNet(nn.Module):
    """Two blocks between a stem and a head: 13 layers, two of them depthwise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = conv_norm(3, 8, 3, stride=2)
        self.blocks = nn.Sequential(Block(8, 8, 3, 1), Block(8, 12, 5, 2))
        self.head = conv_norm(12, 32, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(
            self.pool(self.head(self.blocks(self.stem(image)))).flatten(1)
        )
        return logits


def export(module: nn.Module, path: Path, *, dynamo: bool) -> Path:
    """Write a module of images as it is in inference, with a free batch."""
    free: dict[str, Any] = {"dynamic_axes": {"image": {0: "batch"}}}
    if dynamo:
        free = {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},)}
    torch.onnx.export(
        module.eval(), (torch.zeros(2, 3, SIZE, SIZE),), path, input_names=["image"],
        output_names=["logits"], opset_version=20 if dynamo else 17, dynamo=dynamo, verbose=False,
        **free,
    )  # fmt: skip
    return path
