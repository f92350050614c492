"""Reductions over axes, and the positions of extremes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView
from autosparse.model_graph.torch_executor.operator import Kernel, Operator

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]
"""Reduces a tensor over some axes (none: the tensor itself), keeping them as 1 or not."""


def _reduction(reduce: Reduction) -> Operator:
    """Make the entry of a Reduce operator: axes come as an attribute or as an input."""

    def build(node: NodeView) -> Kernel:
        keep = node.flag("keepdims", True)
        fixed = node.integers("axes")
        keep_if_empty = node.flag("noop_with_empty_axes")

        def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
            chosen = fixed if axes is None else tuple(axes.tolist())
            if not chosen and not keep_if_empty:
                chosen = tuple(range(x.ndim))
            return reduce(x, tuple(axis % x.ndim for axis in chosen or ()), keep)

        return run

    return Operator(build, host_inputs=frozenset({1}))


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    # no axes at all means every axis to torch, and no axis here
    return x.sum(dim=axes, keepdim=keep, dtype=x.dtype) if axes else x


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if not axes:
        return x
    if x.is_floating_point():
        return x.mean(dim=axes, keepdim=keep)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc").to(x.dtype)


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(dim=axis, keepdim=keep, dtype=x.dtype)
    return x


def _maximum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if axes and _is_empty(x, axes):
        return _sum(x, axes, keep).fill_(_lowest(x.dtype))
    return x.amax(axes, keep) if axes else x


def _minimum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if axes and _is_empty(x, axes):
        return _sum(x, axes, keep).fill_(_highest(x.dtype))
    return x.amin(axes, keep) if axes else x


def _is_empty(x: Tensor, axes: tuple[int, ...]) -> bool:
    return any(x.shape[axis] == 0 for axis in axes)


def _lowest(dtype: torch.dtype) -> float:
    if dtype == torch.bool:
        return 0
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def _highest(dtype: torch.dtype) -> float:
    if dtype == torch.bool:
        return 1
    return math.inf if dtype.is_floating_point else torch.iinfo(dtype).max


def _l1(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _l2(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if not axes:
        return x.abs()
    if not x.is_floating_point():
        return _l2(x.to(torch.float64), axes, keep).to(x.dtype)
    # unlike the square root of a sum, its gradient at zero is zero and no NaN
    norm: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keep)
    return norm


def _log_sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.log(_sum(x, axes, keep))


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x, dim=axes, keepdim=keep) if axes else x


def _sum_square(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _position(find: Callable[..., Tensor]) -> Operator:
    """Make the entry of ArgMax or ArgMin."""

    def build(node: NodeView) -> Kernel:
        axis = node.integer("axis", 0)
        keep = node.flag("keepdims", True)
        last = node.flag("select_last_index")

        def run(x: Tensor) -> Tensor:
            if not last:
                return find(x, dim=axis, keepdim=keep)
            return x.shape[axis] - 1 - find(x.flip(axis), dim=axis, keepdim=keep)

        return run

    return Operator(build)


OPERATORS: Mapping[str, Operator] = {
    "ArgMax": _position(torch.argmax),
    "ArgMin": _position(torch.argmin),
    "ReduceL1": _reduction(_l1),
    "ReduceL2": _reduction(_l2),
    "ReduceLogSum": _reduction(_log_sum),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceMax": _reduction(_maximum),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(_minimum),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(_sum_square),
}
