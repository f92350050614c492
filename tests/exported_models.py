"""Small networks of the kinds that come, and their export by either of torch's exporters."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, WORDS = 16, 4, 50


def conv_norm(
    cin: int, cout: int, size: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(cin, cout, size, stride, size // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(cout)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return conv, norm


class Branches(nn.Module):
    """Sum or product of what several modules make of one input."""

    def __init__(self, combine: Callable[[Tensor, Tensor], Tensor], *branches: nn.Module) -> None:
        super().__init__()
        self.combine, self.branches = combine, nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        values: list[Tensor] = [branch(x) for branch in self.branches]
        return functools.reduce(self.combine, values)


def residual(cin: int, cout: int, stride: int) -> nn.Module:
    body = nn.Sequential(*conv_norm(cin, cout, 3, stride), nn.ReLU(), *conv_norm(cout, cout, 3))
    shortcut = nn.Sequential(*conv_norm(cin, cout, 1, stride))
    return nn.Sequential(Branches(torch.add, body, shortcut), nn.ReLU())


def squeeze_excite(channels: int) -> nn.Module:
    narrow, wide = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), narrow, nn.SiLU(), wide, nn.Hardsigmoid())
    return Branches(torch.mul, nn.Identity(), gate)


def inverted(activation: Callable[[], nn.Module], *gate: nn.Module) -> nn.Module:
    up, depthwise = conv_norm(8, 16, 1), conv_norm(16, 16, 5, groups=16)
    down = conv_norm(16, 8, 1)
    body = nn.Sequential(*up, activation(), *depthwise, activation(), *gate, *down)
    return Branches(torch.add, nn.Identity(), body)


def head(channels: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, 10)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        batch, length, _ = x.shape
        split = self.projection(x).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal
        )
        projected: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return projected


class Block(nn.Module):
    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.activation = nn.GELU(approximate)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        x = x + self.attention(self.before(x), mask, causal)
        added: Tensor = x + self.down(self.activation(self.up(self.between(x))))
        return added


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.block = Block("none")
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch(image).flatten(2).transpose(1, 2)
        token = self.token.expand(image.shape[0], -1, -1)
        logits: Tensor = self.head(self.block(torch.cat((token, patches), 1) + self.position)[:, 0])
        return logits


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(WORDS, WIDTH), nn.Embedding(32, WIDTH)
        self.block = Block("none")

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.word(ids) + self.position(torch.arange(ids.shape[1]))
        hidden = (1.0 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        x = self.block(x, hidden)
        shown = mask.unsqueeze(-1).to(x.dtype)
        return functional.normalize((x * shown).sum(1) / shown.sum(1).clamp(min=1e-9), dim=-1)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(WORDS, WIDTH), nn.Embedding(32, WIDTH)
        self.block = Block("tanh")
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.word.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.word(ids) + self.position(torch.arange(ids.shape[1]))
        logits: Tensor = self.head(self.block(x, causal=True))
        return logits


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: nn.Sequential(
        *conv_norm(3, 8, 7, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        residual(8, 8, 1),
        residual(8, 16, 2),
        *head(16),
    ),
    "mobilenet_v2": lambda: nn.Sequential(*conv_norm(3, 8, 3, 2), inverted(nn.ReLU6), *head(8)),
    "mobilenet_v3": lambda: nn.Sequential(
        *conv_norm(3, 8, 3, 2), nn.Hardswish(), inverted(nn.Hardswish, squeeze_excite(16)), *head(8)
    ),
    "vision_transformer": VisionTransformer,
    "encoder": Encoder,
    "decoder": Decoder,
}


def inputs_of(name: str, batch: int, length: int) -> dict[str, npt.NDArray[np.generic]]:
    generator = np.random.default_rng(batch)
    if name not in ("encoder", "decoder"):
        return {"image": generator.standard_normal((batch, 3, 16, 16)).astype(np.float32)}
    ids = generator.integers(0, WORDS, (batch, length))
    if name == "decoder":
        return {"ids": ids}
    mask = (np.arange(length) < generator.integers(2, length, (batch, 1))).astype(np.int64)
    return {"ids": ids, "mask": mask}


def export_model(directory: Path, name: str, opset: int, dynamo: bool) -> Path:
    """Export a model with free batch and length, once per opset and exporter; its file."""
    path = directory / f"{name}_{opset}_{dynamo}.onnx"
    if path.exists():
        return path
    torch.manual_seed(0)
    inputs = inputs_of(name, batch=2, length=7)
    free = {key: {0: "batch"} if key == "image" else {0: "batch", 1: "length"} for key in inputs}
    dynamic = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in free.values())
    with warnings.catch_warnings():
        # the exporter of most models in the field says on every call that it is old
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            MODELS[name]().eval(),
            tuple(torch.from_numpy(array) for array in inputs.values()),
            path,
            input_names=list(inputs),
            opset_version=opset,
            dynamo=dynamo,
            verbose=False,
            **({"dynamic_shapes": dynamic} if dynamo else {"dynamic_axes": free}),
        )
    return path
