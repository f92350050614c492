"""Convolution and its transpose, over 1 to 3 spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView, UnsupportedNodeError
from autosparse.model_graph.torch_executor.operator import Kernel, Operator
from autosparse.model_graph.torch_executor.windows import Padding, Window, pad_spatial

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def _build_conv(node: NodeView) -> Kernel:
    window = Window.of(node)
    groups = node.integer("group", 1)
    node.ignore("kernel_shape")  # the weight has it

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(batch, Cin, *sizes) with (Cout, Cin / groups, *kernel) -> (batch, Cout, *sizes)."""
        kernel = weight.shape[2:]
        rank = len(kernel)
        function = _for_rank(_CONVOLUTIONS, "Conv", rank)
        padding = window.padding(x.shape[2:], kernel)
        inner = _symmetric(padding)
        if inner is None:
            x = pad_spatial(x, padding)
            inner = (0,) * rank
        if rank == 2 and x.device.type == "cpu":
            # up to ten times as fast where depthwise; what follows keeps this layout
            x = x.contiguous(memory_format=torch.channels_last)
        return function(x, weight, bias, window.stride(rank), inner, window.dilation(rank), groups)

    return convolve


def _symmetric(padding: Padding) -> tuple[int, ...] | None:
    """One amount per axis, which torch can add by itself, or None where the sides differ."""
    if any(before != after or before < 0 for before, after in padding):
        return None
    return tuple(before for before, _ in padding)


def _build_conv_transpose(node: NodeView) -> Kernel:
    window = Window.of(node)
    groups = node.integer("group", 1)
    output_padding = node.integers("output_padding")
    output_shape = node.integers("output_shape")
    node.ignore("kernel_shape")  # the weight has it

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(batch, Cin, *sizes) with (Cin, Cout / groups, *kernel) -> (batch, Cout, *sizes)."""
        kernel = weight.shape[2:]
        rank = len(kernel)
        function = _for_rank(_TRANSPOSED, "ConvTranspose", rank)
        extra, stride = output_padding or (0,) * rank, window.stride(rank)
        whole = function(x, weight, None, stride, 0, extra, groups, window.dilation(rank))
        if output_shape is not None:
            wanted: tuple[int, ...] | None = output_shape[-rank:]
        elif window.auto_pad.startswith("SAME"):
            wanted = tuple(s * n for s, n in zip(stride, x.shape[2:], strict=True))
        else:
            wanted = None
        if wanted is None:
            margins = window.explicit_padding(rank)
        else:
            sizes = whole.shape[2:]
            margins = window.split([n - w for n, w in zip(sizes, wanted, strict=True)])
        # a negative margin adds zeros, which is why the bias comes afterwards
        result = pad_spatial(whole, tuple((-before, -after) for before, after in margins))
        return result if bias is None else result + bias.view(-1, *(1,) * rank)

    return convolve


def _for_rank(
    functions: Mapping[int, Callable[..., Tensor]], operator: str, rank: int
) -> Callable[..., Tensor]:
    if rank not in functions:
        raise UnsupportedNodeError(f"{operator} over {rank} spatial axes")
    return functions[rank]


OPERATORS: Mapping[str, Operator] = {
    "Conv": Operator(_build_conv),
    "ConvTranspose": Operator(_build_conv_transpose),
}
