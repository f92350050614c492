"""A sparse layer as the kernels see it: non-zeros, positions, and all that surrounds them."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from autosparse.errors import CompileError

Number = TypeVar("Number", np.float32, np.int8, np.uint16)
Weights = npt.NDArray[np.float32] | npt.NDArray[np.int8] | npt.NDArray[np.uint16]
"""uint16 holds the bits of bf16."""
_USUAL = "usual"
_NUMBERS = ("vectors", "rows", "depth")
_PLAN = re.compile(
    r"(?P<family>broadcast|permute)?"
    + "".join(rf"(?:(?:^| ){name}=(?P<{name}>[1-9]\d{{0,6}}))?" for name in _NUMBERS)
)


class Activation(enum.IntEnum):
    """What is applied to a layer's result, after bias and residual; as in the C header."""

    NONE = 0
    RELU = 1
    CLIP = 2
    GELU = 3
    SILU = 4


class Family(enum.IntEnum):
    """How a layer is computed; as in the C header."""

    ANY = 0
    BROADCAST = 1
    PERMUTE = 2


@dataclass(frozen=True)
class KernelPlan:
    """The tile that a layer is computed with; zero leaves the choice to the library."""

    family: Family = Family.ANY
    vectors: int = 0
    """Registers of columns in a tile."""
    rows: int = 0
    """Output channels (broadcast) or input rows (permute) at once."""
    depth: int = 0
    """Features in one pass over a tile."""

    def __str__(self) -> str:
        """`permute vectors=4`; `usual` where everything is left to the library."""
        numbers = (f"{name}={n}" for name in _NUMBERS if (n := getattr(self, name)))
        family = () if self.family is Family.ANY else (self.family.name.lower(),)
        return " ".join((*family, *numbers)) or _USUAL

    @classmethod
    def parse(cls, text: str) -> KernelPlan:
        """Read what `str` writes.

        Raises:
            CompileError: it is no plan.
        """
        if text == _USUAL:
            return cls()
        match = _PLAN.fullmatch(text)
        if match is None or not text:
            raise CompileError(
                f"{text!r} is no plan of the sparse kernels",
                hint="measure the atlas again with --plans --fresh",
            )
        family = Family[(match["family"] or "any").upper()]
        return cls(family, **{name: int(match[name] or 0) for name in _NUMBERS})


@dataclass(frozen=True)
class Convolution:
    """Geometry of a two-dimensional convolution."""

    channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right, as in ONNX."""
    groups: int = 1


@dataclass(frozen=True)
class Quantization:
    """Grids of an int8 layer: real = (integer - zero) * step."""

    input_step: float
    input_zero: int
    weight_steps: npt.NDArray[np.float32]
    """(outputs,)"""
    output_step: float | None = None
    """None where the output is fp32."""
    output_zero: int = 0


@dataclass(frozen=True)
class Normalization:
    """Of every row of a matrix product, last of all: ONNX's LayerNormalization."""

    scale: npt.NDArray[np.float32]
    """(outputs,)"""
    shift: npt.NDArray[np.float32]
    """(outputs,)"""
    epsilon: float
    """Added to the variance."""


@dataclass(frozen=True)
class SparseLayer:
    """A weight matrix (outputs, depth) in runs of `run` consecutive weights, and its epilogue.

    `depth` is K of a matrix product and kernel height x kernel width x channels of a group, in
    that order, of a convolution.
    """

    outputs: int
    depth: int
    positions: npt.NDArray[np.int64]
    """Flat index of each run divided by `run`, ascending."""
    values: Weights
    """(runs, run): float32, int8 with a `quantization`, or the bits of bf16 in pairs."""
    run: int = 1
    group: int = 0
    """M of an N:M pattern in which every group is full, else 0."""
    bias: npt.NDArray[np.float32] | None = None
    quantization: Quantization | None = None
    convolution: Convolution | None = None
    activation: Activation = Activation.NONE
    clip: tuple[float, float] = (0.0, 0.0)
    norm: Normalization | None = None
    """Of a matrix product with fp32 result and no activation."""
    plan: KernelPlan = field(default_factory=KernelPlan)


def nonzero_runs(
    weight: npt.NDArray[Number], run: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Number]]:
    """Positions and values of the runs of a matrix (outputs, depth) that hold a non-zero."""
    runs = weight.reshape(-1, run)
    positions = np.flatnonzero(runs.any(axis=1)).astype(np.int64)
    return positions, np.ascontiguousarray(runs[positions])


def all_runs(
    weight: npt.NDArray[Number], run: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Number]]:
    """The same of every run, for a layer that is dense whatever zeros it happens to have."""
    runs = np.ascontiguousarray(weight.reshape(-1, run))
    return np.arange(len(runs), dtype=np.int64), runs
