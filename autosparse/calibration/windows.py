"""Where a layer reads its input: the rows that its weight matrix is multiplied with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from autosparse.errors import AutoSparseError

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
AutoPad = Literal["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]


@dataclass(frozen=True)
class Window:
    """How a convolution slides over its input; without a kernel, a matrix product's plain rows.

    One entry per spatial axis.
    """

    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    """Zeros before and after; read only where `auto_pad` is NOTSET."""
    auto_pad: AutoPad = "NOTSET"

    def padding(self, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Zeros before and after every spatial axis of an input of these sizes."""
        if self.auto_pad == "NOTSET":
            return self.pads
        if self.auto_pad == "VALID":
            return ((0, 0),) * len(sizes)
        padding = []
        for size, reach, stride in zip(sizes, self._reaches, self.strides, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
            small, large = total // 2, total - total // 2
            padding.append((small, large) if self.auto_pad == "SAME_UPPER" else (large, small))
        return tuple(padding)

    def positions(self, padded: tuple[int, ...]) -> tuple[int, ...]:
        """Output sizes for an input of these padded sizes."""
        return tuple(
            max((size - reach) // stride + 1, 0)
            for size, reach, stride in zip(padded, self._reaches, self.strides, strict=True)
        )

    @property
    def _reaches(self) -> tuple[int, ...]:
        """Input positions from the first to the last tap, both counted."""
        return tuple(
            (taps - 1) * dilation + 1
            for taps, dilation in zip(self.kernel, self.dilations, strict=True)
        )


def window_of(node: ir.Node) -> Window:
    """Read the window of a layer's node: of a Conv; a Gemm or MatMul has none."""
    if node.op_type != "Conv":
        return Window()
    weight = node.inputs[1]
    if weight is None or weight.const_value is None:
        raise AutoSparseError(f"node {node.name!r} is no layer: its weight is no constant")
    kernel = tuple(int(dim) for dim in weight.const_value.shape.numpy()[2:])
    rank = len(kernel)
    pads = _integers(node, "pads", (0,) * (2 * rank))
    attribute = node.attributes.get("auto_pad")
    auto_pad = "NOTSET" if attribute is None else attribute.as_string()
    if auto_pad not in get_args(AutoPad):
        raise AutoSparseError(f"node {node.name!r} has the unknown auto_pad {auto_pad!r}")
    return Window(
        kernel=kernel,
        strides=_integers(node, "strides", (1,) * rank),
        dilations=_integers(node, "dilations", (1,) * rank),
        pads=tuple(zip(pads[:rank], pads[rank:], strict=True)),
        auto_pad=cast(AutoPad, auto_pad),
    )


def _integers(node: ir.Node, attribute: str, default: tuple[int, ...]) -> tuple[int, ...]:
    found = node.attributes.get(attribute)
    return default if found is None else tuple(int(value) for value in found.as_ints())


class InputRows:
    """The rows of one batch, one per output position, built only for the positions asked for.

    Args:
        activations: as the graph computes them: (N, C, *spatial) where the window has a kernel,
            else (..., K).
        window: how the layer slides over them.
        groups: groups of the convolution.
    """

    def __init__(self, activations: Floats, window: Window, groups: int = 1) -> None:
        self._groups = groups
        if window.kernel:
            padding = window.padding(activations.shape[2:])
            padded = np.pad(np.moveaxis(activations, 1, -1), ((0, 0), *padding, (0, 0)))
        else:
            padded = activations.reshape(-1, activations.shape[-1])
        sizes = padded.shape[1:-1]
        self._shape = (padded.shape[0], *window.positions(sizes))
        # positions and taps are counted in points of the padded input, channels apart
        pitches = np.array([math.prod(sizes[axis:]) for axis in range(len(sizes) + 1)])
        self._steps = pitches * np.array((1, *window.strides))
        taps = np.indices(window.kernel).reshape(len(window.kernel), math.prod(window.kernel))
        self._taps = (taps * (pitches[1:] * window.dilations)[:, None]).sum(axis=0).astype(int)
        self._points = padded.reshape(-1, padded.shape[-1])

    def __len__(self) -> int:
        return math.prod(self._shape)

    def take(self, chosen: Positions) -> Floats:
        """Rows of the chosen positions, (groups, len(chosen), K), K in the order kh, kw, Cin."""
        first = self._steps @ np.stack(np.unravel_index(chosen, self._shape))
        rows = self._points[first[:, None] + self._taps]
        split = rows.reshape(len(chosen), len(self._taps), self._groups, -1)
        return np.ascontiguousarray(split.transpose(2, 0, 1, 3)).reshape(
            self._groups, len(chosen), -1
        )
