"""The shapes that the `kernels` benchmark runs: layers of networks that people know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearShape:
    """A matrix product: `inputs` features to `outputs` features."""

    inputs: int
    outputs: int

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.inputs}x{self.outputs}"

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.inputs * self.outputs

    def operations(self, rows: int) -> int:
        """Multiplications and additions of a dense layer."""
        return 2 * rows * self.weights

    def input_shape(self, rows: int) -> tuple[int, ...]:
        """Of one inference."""
        return (rows, self.inputs)


@dataclass(frozen=True)
class ConvShape:
    """A convolution that pads its image by half of its kernel."""

    inputs: int
    outputs: int
    kernel: int
    size: int
    """Height and width of the input."""
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        """As people write it."""
        stride = f" stride {self.stride}" if self.stride > 1 else ""
        return (
            f"{self.inputs}->{self.outputs} {self.kernel}x{self.kernel}{stride} at "
            f"{self.size}x{self.size}"
        )

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.inputs // self.groups * self.outputs * self.kernel**2

    def operations(self, rows: int) -> int:
        """Multiplications and additions of a dense layer."""
        return 2 * rows * self.weights * (self.size // self.stride) ** 2

    def input_shape(self, rows: int) -> tuple[int, ...]:
        """Of one inference."""
        return (rows, self.inputs, self.size, self.size)


LayerShape = LinearShape | ConvShape


def _resnet50() -> tuple[ConvShape, ...]:
    """Every distinct 1x1 and 3x3 convolution, strides on the 3x3 ones."""
    shapes: list[ConvShape] = []
    width, size = 64, 56
    for inner, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        wide, after = 4 * inner, size // stride
        shapes += [
            ConvShape(width, inner, 1, size),
            ConvShape(inner, inner, 3, size, stride),
            ConvShape(inner, wide, 1, after),
            ConvShape(width, wide, 1, size, stride),
            ConvShape(wide, inner, 1, after),
            ConvShape(inner, inner, 3, after),
        ]
        width, size = wide, after
    return tuple(dict.fromkeys(shapes))


ODD = "odd"
"""Sizes that fill no register and no tile: outside the bars, which are for networks' layers."""

# The first convolution of either network reads three channels: it stays dense everywhere.
GROUPS: Mapping[str, tuple[LayerShape, ...]] = {
    "minilm": (LinearShape(384, 384), LinearShape(384, 1536), LinearShape(1536, 384)),
    "bert": (LinearShape(768, 768), LinearShape(768, 3072), LinearShape(3072, 768)),
    "square": (LinearShape(1024, 1024),),
    "decoder": (LinearShape(2048, 2048), LinearShape(2048, 5632), LinearShape(5632, 2048)),
    "resnet50": _resnet50(),
    "resnet56": (
        ConvShape(16, 16, 3, 32), ConvShape(16, 32, 3, 32, 2), ConvShape(32, 32, 3, 16),
        ConvShape(32, 64, 3, 16, 2), ConvShape(64, 64, 3, 8),
    ),
    # of the second one, words of four bytes can be read
    ODD: (LinearShape(387, 1001), LinearShape(388, 1001)),
}  # fmt: skip


@dataclass(frozen=True)
class KernelScale:
    """How much of everything one run takes."""

    groups: Mapping[str, tuple[LayerShape, ...]]
    linear_rows: tuple[int, ...]
    conv_rows: tuple[int, ...]
    rounds: int
    """Undisturbed rounds of each shape."""
    seconds_per_shape: float
    """No more rounds are begun after this, disturbed or not."""
    deadline_seconds: float
    """No shape is begun after this."""
    odd_rows: tuple[int, ...] = ()

    def rows_of(self, group: str, shape: LayerShape) -> tuple[int, ...]:
        """Rows in one inference that a shape of a group is timed at."""
        if group == ODD:
            return self.odd_rows
        return self.linear_rows if isinstance(shape, LinearShape) else self.conv_rows


FULL = KernelScale(
    groups=GROUPS,
    linear_rows=(1, 16, 128, 512),
    conv_rows=(1, 16),
    rounds=10,
    seconds_per_shape=20.0,
    deadline_seconds=2600.0,
    odd_rows=(1, 7, 100),
)
QUICK = KernelScale(
    groups={
        "minilm": (LinearShape(384, 1536),),
        "bert": (LinearShape(768, 3072),),
        "square": (LinearShape(1024, 1024),),
        "resnet50": (ConvShape(1024, 256, 1, 14), ConvShape(256, 256, 3, 14)),
        "resnet56": (ConvShape(32, 32, 3, 16),),
    },
    linear_rows=(16, 128),
    conv_rows=(1,),
    rounds=5,
    seconds_per_shape=10.0,
    deadline_seconds=220.0,
)
