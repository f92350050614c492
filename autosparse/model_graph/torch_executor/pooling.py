"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView, UnsupportedNodeError
from autosparse.model_graph.torch_executor.operator import Kernel, Operator, plain
from autosparse.model_graph.torch_executor.windows import Padding, Window, pad_spatial

_MAXIMUM: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _build_max_pool(node: NodeView) -> Kernel:
    window = Window.of(node)
    kernel = _kernel_shape(node)
    ceil_mode = node.flag("ceil_mode")
    node.ignore("storage_order")  # about the second output, which is refused
    function, rank = _MAXIMUM[len(kernel)], len(kernel)

    def pool(x: Tensor) -> Tensor:
        """(batch, channels, *sizes) -> (batch, channels, *windows)."""
        if not x.is_floating_point():
            return pool(x.to(torch.float32)).to(x.dtype)  # exact: ONNX has 8-bit integers here
        padding = window.padding(x.shape[2:], kernel)
        if ceil_mode:
            padding = _extend(padding, _overhang(window, x.shape[2:], kernel, padding))
        padded = pad_spatial(x, padding, -math.inf)
        return function(padded, kernel, window.stride(rank), 0, window.dilation(rank))

    return pool


def _build_average_pool(node: NodeView) -> Kernel:
    window = Window.of(node)
    kernel = _kernel_shape(node)
    ceil_mode = node.flag("ceil_mode")
    count_padding = node.flag("count_include_pad")
    function, rank = _AVERAGE[len(kernel)], len(kernel)
    if any(distance != 1 for distance in window.dilation(rank)):
        node.refuse("dilations")

    def pool(x: Tensor) -> Tensor:
        """(batch, channels, *sizes) -> (batch, channels, *windows)."""
        sizes, stride = x.shape[2:], window.stride(rank)
        padding = window.padding(sizes, kernel)
        overhang = _overhang(window, sizes, kernel, padding) if ceil_mode else (0,) * rank
        mean = function(pad_spatial(x, _extend(padding, overhang)), kernel, stride)
        # what lies beyond the edge was averaged in as zero: divide by the part that counts
        if count_padding:
            beyond, edge = _extend(((0, 0),) * rank, overhang), padding
        else:
            beyond, edge = _extend(padding, overhang), ((0, 0),) * rank
        if not any(before or after for before, after in beyond):
            return mean
        counted = pad_spatial(torch.ones_like(x[:1, :1]), edge, 1.0)
        return mean / function(pad_spatial(counted, beyond), kernel, stride)

    return pool


def _kernel_shape(node: NodeView) -> tuple[int, ...]:
    kernel = node.integers("kernel_shape") or ()
    if len(kernel) not in _MAXIMUM:
        node.refuse(f"{len(kernel)} spatial axes")
    return kernel


def _overhang(
    window: Window, sizes: Sequence[int], kernel: Sequence[int], padding: Padding
) -> tuple[int, ...]:
    """Elements by which the last window that ceil_mode adds hangs over the padded input."""
    missing = []
    steps = window.stride(len(kernel))
    for size, (before, after), extent, step in zip(
        sizes, padding, window.extents(kernel), steps, strict=True
    ):
        windows = -(-(size + before + after - extent) // step) + 1
        if (windows - 1) * step >= size + before:
            windows -= 1  # it would start in the padding: there is no such window
        missing.append(max((windows - 1) * step + extent - (size + before + after), 0))
    return tuple(missing)


def _extend(padding: Padding, overhang: Sequence[int]) -> Padding:
    return tuple(
        (before, after + more) for (before, after), more in zip(padding, overhang, strict=True)
    )


def _spatial_axes(x: Tensor) -> tuple[int, ...]:
    if x.ndim < 3:
        raise UnsupportedNodeError("global pooling of a tensor with no spatial axes")
    return tuple(range(2, x.ndim))


def _global_average(x: Tensor) -> Tensor:
    return x.mean(dim=_spatial_axes(x), keepdim=True)


def _global_maximum(x: Tensor) -> Tensor:
    return x.amax(dim=_spatial_axes(x), keepdim=True)


OPERATORS: Mapping[str, Operator] = {
    "AveragePool": Operator(_build_average_pool),
    "GlobalAveragePool": plain(_global_average),
    "GlobalMaxPool": plain(_global_maximum),
    "MaxPool": Operator(_build_max_pool),
}
