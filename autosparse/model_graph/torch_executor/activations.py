"""Activation functions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView
from autosparse.model_graph.torch_executor.operator import Kernel, Operator, plain


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clip to [low, high]; everything becomes `high` where the bounds are the wrong way round."""
    if low is None and high is None:
        return x
    return torch.clamp(x, min=low, max=high)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _build_celu(node: NodeView) -> Kernel:
    alpha = node.number("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


def _build_elu(node: NodeView) -> Kernel:
    alpha = node.number("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


def _build_gelu(node: NodeView) -> Kernel:
    approximate = node.choice("approximate", "none", ("none", "tanh"))
    return lambda x: F.gelu(x, approximate=approximate)


def _build_hard_sigmoid(node: NodeView) -> Kernel:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


def _build_hardmax(node: NodeView) -> Kernel:
    axis = node.integer("axis", -1)

    def hardmax(x: Tensor) -> Tensor:
        first = torch.argmax(x, dim=axis, keepdim=True)
        return torch.zeros_like(x).scatter(axis, first, 1)

    return hardmax


def _build_leaky_relu(node: NodeView) -> Kernel:
    slope = node.number("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


def _build_log_softmax(node: NodeView) -> Kernel:
    axis = node.integer("axis", -1)
    return lambda x: torch.log_softmax(x, dim=axis)


def _build_selu(node: NodeView) -> Kernel:
    alpha = node.number("alpha", 1.67326319217681884765625)
    gamma = node.number("gamma", 1.05070102214813232421875)
    return lambda x: gamma * F.elu(x, alpha)


def _build_softmax(node: NodeView) -> Kernel:
    axis = node.integer("axis", -1)
    return lambda x: torch.softmax(x, dim=axis)


def _softplus(x: Tensor) -> Tensor:
    # torch's own threshold of 20 is visible in float64; above 40 log1p(exp(-x)) no longer is
    return F.softplus(x, threshold=40)


def _build_swish(node: NodeView) -> Kernel:
    alpha = node.number("alpha", 1.0)
    return F.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


def _build_thresholded_relu(node: NodeView) -> Kernel:
    alpha = node.number("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


OPERATORS: Mapping[str, Operator] = {
    "Celu": Operator(_build_celu),
    "Clip": plain(_clip),
    "Elu": Operator(_build_elu),
    "Gelu": Operator(_build_gelu),
    "HardSigmoid": Operator(_build_hard_sigmoid),
    "HardSwish": plain(F.hardswish),
    "Hardmax": Operator(_build_hardmax),
    "LeakyRelu": Operator(_build_leaky_relu),
    "LogSoftmax": Operator(_build_log_softmax),
    "Mish": plain(F.mish),
    "PRelu": plain(_prelu),
    "Relu": plain(torch.relu),
    "Selu": Operator(_build_selu),
    "Sigmoid": plain(torch.sigmoid),
    "Softmax": Operator(_build_softmax),
    "Softplus": plain(_softplus),
    "Softsign": plain(F.softsign),
    "Swish": Operator(_build_swish),
    "Tanh": plain(torch.tanh),
    "ThresholdedRelu": Operator(_build_thresholded_relu),
}
