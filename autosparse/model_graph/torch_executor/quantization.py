"""Quantization with one scale, or one per slice of an axis.

Rounding has no useful gradient and none is made up: what QuantizeLinear writes is an integer
tensor, so no gradient flows back through it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView
from autosparse.model_graph.torch_executor.operator import Kernel, Operator


def _build_quantize(node: NodeView) -> Kernel:
    axis = node.integer("axis", 1)
    dtype = node.dtype("output_dtype")
    precision = node.dtype("precision")
    node.ignore("saturate")  # of 8-bit floats, which are refused
    if node.integer("block_size", 0):
        node.refuse("block_size")

    def quantize(x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        """Divide, round halves to even, shift and saturate: same shape out."""
        target = dtype or (torch.uint8 if zero_point is None else zero_point.dtype)
        limits = torch.iinfo(target)
        wide = precision or torch.promote_types(scale.dtype, torch.float32)
        levels = torch.round(x.to(wide) / _along(scale, axis, x).to(wide))
        if zero_point is not None:
            levels = levels + _along(zero_point, axis, x)
        return levels.clamp(limits.min, limits.max).to(target)

    return quantize


def _build_dequantize(node: NodeView) -> Kernel:
    axis = node.integer("axis", 1)
    dtype = node.dtype("output_dtype")
    if node.integer("block_size", 0):
        node.refuse("block_size")

    def dequantize(x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        """Shift and multiply: same shape out, in the type of the scale."""
        levels = x.to(torch.int32)
        if zero_point is not None:
            levels = levels - _along(zero_point, axis, x).to(torch.int32)
        value = levels.to(scale.dtype) * _along(scale, axis, x)
        return value if dtype is None else value.to(dtype)

    return dequantize


def _along(parameter: Tensor, axis: int, x: Tensor) -> Tensor:
    """Shape a scale or zero point so that it broadcasts along `axis` of `x`."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    return parameter.view(-1, *(1,) * (x.ndim - 1 - axis % x.ndim))


OPERATORS: Mapping[str, Operator] = {
    "DequantizeLinear": Operator(_build_dequantize),
    "QuantizeLinear": Operator(_build_quantize),
}
