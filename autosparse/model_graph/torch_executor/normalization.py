"""Normalization, as it runs in inference."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView
from autosparse.model_graph.torch_executor.operator import Kernel, Operator

_EPSILON = 1e-5
_HALF = (torch.float16, torch.bfloat16)
# Since this opset GroupNormalization scales channels; before, it scaled groups.
_SCALE_PER_CHANNEL = 21


def _build_batch_normalization(node: NodeView) -> Kernel:
    epsilon = node.number("epsilon", _EPSILON)
    node.ignore("momentum")  # of the running averages, which inference only reads
    if node.flag("training_mode"):
        node.refuse("training_mode")

    def normalize(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """(batch, channels, ...) -> the same."""
        return F.batch_norm(x, mean, var, scale, bias, training=False, eps=epsilon)

    return normalize


def _build_instance_normalization(node: NodeView) -> Kernel:
    epsilon = node.number("epsilon", _EPSILON)

    def normalize(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """(batch, channels, *sizes) -> the same."""
        return torch.group_norm(x, x.shape[1], scale, bias, epsilon)

    return normalize


def _build_group_normalization(node: NodeView) -> Kernel:
    epsilon = node.number("epsilon", _EPSILON)
    groups = node.required_integer("num_groups")
    per_channel = node.opset >= _SCALE_PER_CHANNEL
    node.ignore("stash_type")  # `_wide` computes at least that precisely

    def normalize(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """(batch, channels, ...) -> the same."""
        normal = torch.group_norm(_wide(x), groups, eps=epsilon).to(x.dtype)
        if not per_channel:
            size = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(size), bias.repeat_interleave(size)
        shape = (-1, *(1,) * (x.ndim - 2))
        return normal * scale.view(shape) + bias.view(shape)

    return normalize


def _build_layer_normalization(node: NodeView) -> Kernel:
    epsilon = node.number("epsilon", _EPSILON)
    axis = node.integer("axis", -1)
    statistics = node.output_count > 1
    node.ignore("stash_type")  # `_wide` computes at least that precisely

    def normalize(
        x: Tensor, scale: Tensor, bias: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Normalize the axes from `axis` on: same shape out, with mean and 1 / deviation."""
        wide = _wide(x)
        shape = x.shape[axis % x.ndim :]
        fits = scale.shape == shape and (bias is None or bias.shape == shape)
        if fits and scale.dtype == wide.dtype:
            normal = F.layer_norm(wide, shape, scale, bias, epsilon)
        else:
            normal = F.layer_norm(wide, shape, eps=epsilon).to(x.dtype) * scale
            normal = normal if bias is None else normal + bias
        if not statistics:
            return normal
        axes = tuple(range(axis % x.ndim, x.ndim))
        variance, mean = torch.var_mean(wide, dim=axes, correction=0, keepdim=True)
        return normal, mean, torch.rsqrt(variance + epsilon)

    return normalize


def _build_rms_normalization(node: NodeView) -> Kernel:
    epsilon = node.number("epsilon", _EPSILON)
    axis = node.integer("axis", -1)
    node.ignore("stash_type")  # `_wide` computes at least that precisely

    def normalize(x: Tensor, scale: Tensor) -> Tensor:
        """Divide by the root mean square over the axes from `axis` on: same shape out."""
        wide = _wide(x)
        axes = tuple(range(axis % x.ndim, x.ndim))
        inverse = torch.rsqrt(wide.square().mean(dim=axes, keepdim=True) + epsilon)
        return (wide * inverse).to(x.dtype) * scale

    return normalize


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32, everything else as it is."""
    return x.float() if x.dtype in _HALF else x


OPERATORS: Mapping[str, Operator] = {
    "BatchNormalization": Operator(_build_batch_normalization),
    "GroupNormalization": Operator(_build_group_normalization),
    "InstanceNormalization": Operator(_build_instance_normalization),
    "LayerNormalization": Operator(_build_layer_normalization, max_outputs=3),
    "RMSNormalization": Operator(_build_rms_normalization),
}
