"""Operators that move elements and leave their values alone, and those about sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView
from autosparse.model_graph.torch_executor.operator import Kernel, Operator, plain

_SECOND = frozenset({1})


def _build_shape(node: NodeView) -> Kernel:
    start, end = node.integer("start", 0), node.optional_integer("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


def _build_reshape(node: NodeView) -> Kernel:
    literal_zero = node.flag("allowzero")

    def reshape(x: Tensor, shape: Tensor) -> Tensor:
        sizes = shape.tolist()
        if not literal_zero:
            sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
        return x.reshape(sizes)

    return reshape


def _build_flatten(node: NodeView) -> Kernel:
    axis = node.integer("axis", 1)

    def flatten(x: Tensor) -> Tensor:
        split = axis if axis >= 0 else axis + x.ndim
        # both sizes are given, since -1 is ambiguous for an empty tensor
        return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))

    return flatten


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    if axes is None:
        return x.squeeze()
    dropped = {axis % x.ndim for axis in axes.tolist()}
    # a reshape, unlike torch's squeeze, fails for an axis that is not 1
    return x.reshape([size for i, size in enumerate(x.shape) if i not in dropped])


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _build_transpose(node: NodeView) -> Kernel:
    order = node.integers("perm")
    return lambda x: x.permute(tuple(reversed(range(x.ndim))) if order is None else order)


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    # both sides broadcast: a 1 in `shape` keeps the size that x has
    wanted = shape.tolist()
    wanted = [1] * (x.ndim - len(wanted)) + wanted
    sizes = [1] * (len(wanted) - x.ndim) + list(x.shape)
    return x.expand([n if m == 1 else m for n, m in zip(sizes, wanted, strict=True)])


def _tile(x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(repeats.tolist())


def _build_concat(node: NodeView) -> Kernel:
    axis = node.required_integer("axis")
    return lambda *parts: torch.cat(parts, dim=axis)


def _build_split(node: NodeView) -> Kernel:
    axis = node.integer("axis", 0)
    count = node.integer("num_outputs", node.output_count)

    def split(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        if sizes is not None:
            return tuple(torch.split(x, sizes.tolist(), dim=axis))
        total = x.shape[axis]
        chunk = -(-total // count)
        ends = [min(chunk * (i + 1), total) for i in range(count)]
        starts = [0, *ends[:-1]]
        return tuple(x.narrow(axis, a, b - a) for a, b in zip(starts, ends, strict=True))

    return split


def _build_pad(node: NodeView) -> Kernel:
    mode = node.choice("mode", "constant", ("constant", "edge", "reflect", "wrap"))

    def pad(
        x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
    ) -> Tensor:
        amounts = pads.tolist()
        padded = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes.tolist()]
        half = len(amounts) // 2
        sides = dict(zip(padded, zip(amounts[:half], amounts[half:], strict=True), strict=True))
        if mode == "constant":
            flat = [n for axis in reversed(range(x.ndim)) for n in sides.get(axis, (0, 0))]
            return F.pad(x, flat, value=0 if value is None else value.item())
        for axis, (before, after) in sides.items():
            if before or after:
                source = _padded_positions(x.shape[axis], before, after, mode)
                x = x.index_select(axis, source.to(x.device))
        return x

    return pad


def _padded_positions(size: int, before: int, after: int, mode: str) -> Tensor:
    """Positions, (before + size + after,), that a padded axis takes its elements from."""
    position = torch.arange(-before, size + after)
    if mode == "edge":
        return position.clamp(0, size - 1)
    if mode == "wrap":
        return position.remainder(size)
    period = max(2 * (size - 1), 1)
    position = position.remainder(period)
    return torch.minimum(position, period - position) if size > 1 else position


def _build_depth_to_space(node: NodeView) -> Kernel:
    block = node.required_integer("blocksize")
    channels_last = node.choice("mode", "DCR", ("DCR", "CRD")) == "DCR"

    def depth_to_space(x: Tensor) -> Tensor:
        """(N, C * block * block, H, W) -> (N, C, H * block, W * block)."""
        if not channels_last:
            return F.pixel_shuffle(x, block)
        n, depth, h, w = x.shape
        channels = depth // (block * block)
        x = x.reshape(n, block, block, channels, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, channels, h * block, w * block)

    return depth_to_space


def _build_space_to_depth(node: NodeView) -> Kernel:
    block = node.required_integer("blocksize")
    channels_last = node.choice("mode", "DCR", ("DCR", "CRD")) == "DCR"

    def space_to_depth(x: Tensor) -> Tensor:
        """(N, C, H * block, W * block) -> (N, C * block * block, H, W)."""
        if not channels_last:
            return F.pixel_unshuffle(x, block)
        n, channels, height, width = x.shape
        h, w = height // block, width // block
        x = x.reshape(n, channels, h, block, w, block).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, channels * block * block, h, w)

    return space_to_depth


OPERATORS: Mapping[str, Operator] = {
    "Concat": Operator(_build_concat),
    "DepthToSpace": Operator(_build_depth_to_space),
    "Expand": plain(_expand, host_inputs=_SECOND),
    "Flatten": Operator(_build_flatten),
    "Pad": Operator(_build_pad, host_inputs=frozenset({1, 2, 3})),
    "Reshape": Operator(_build_reshape, host_inputs=_SECOND),
    "Shape": Operator(_build_shape),
    "Size": plain(_size),
    "SpaceToDepth": Operator(_build_space_to_depth),
    "Split": Operator(_build_split, host_inputs=_SECOND, max_outputs=None),
    "Squeeze": plain(_squeeze, host_inputs=_SECOND),
    "Tile": plain(_tile, host_inputs=_SECOND),
    "Transpose": Operator(_build_transpose),
    "Unsqueeze": plain(_unsqueeze, host_inputs=_SECOND),
}
