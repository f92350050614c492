"""Operators that pick elements, or put them somewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView
from autosparse.model_graph.torch_executor.operator import Kernel, Operator, plain

_SECOND = frozenset({1})
_REDUCTIONS = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _slice(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    first, last = starts.tolist(), ends.tolist()
    chosen = range(len(first)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    strides = [1] * len(first) if steps is None else steps.tolist()
    for axis, start, end, step in zip(chosen, first, last, strides, strict=True):
        size = x.shape[axis]
        # Python's rules, save that a backward start before the first element means the first
        begin = max(start, -size) if step < 0 else start
        positions = range(*slice(begin, end, step).indices(size))
        if step > 0:
            x = x[(slice(None),) * axis + (slice(positions.start, positions.stop, step),)]
        else:  # torch's own slices only go forward
            x = x.index_select(axis, torch.tensor(positions, dtype=torch.int64, device=x.device))
    return x


def _build_gather(node: NodeView) -> Kernel:
    axis = node.integer("axis", 0)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        """Replace one axis of `x` by the shape of `indices`."""
        kept = axis % x.ndim
        flat = _positive(indices, x.shape[kept]).reshape(-1)
        shape = (*x.shape[:kept], *indices.shape, *x.shape[kept + 1 :])
        return x.index_select(kept, flat).reshape(shape)

    return gather


def _build_gather_elements(node: NodeView) -> Kernel:
    axis = node.integer("axis", 0)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        return torch.gather(x, axis, _positive(indices, x.shape[axis]))

    return gather


def _positive(indices: Tensor, size: int) -> Tensor:
    """Indices of any sign, as int64 that count from the front."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _build_gather_nd(node: NodeView) -> Kernel:
    batch_axes = node.integer("batch_dims", 0)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        """(*batch, *rest) picked by (*batch, *picks, depth) -> (*batch, *picks, *unpicked)."""
        picks = indices.ndim - 1
        batch = [
            torch.arange(x.shape[axis], device=x.device).view(-1, *(1,) * (picks - axis - 1))
            for axis in range(batch_axes)
        ]
        return x[(*batch, *indices.long().unbind(-1))]

    return gather


def _build_scatter_elements(node: NodeView) -> Kernel:
    axis = node.integer("axis", 0)
    reduce = _REDUCTIONS[node.choice("reduction", "none", _REDUCTIONS)]

    def scatter(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        return _scatter(x, axis, _positive(indices, x.shape[axis]), updates, reduce)

    return scatter


def _build_scatter_nd(node: NodeView) -> Kernel:
    reduce = _REDUCTIONS[node.choice("reduction", "none", _REDUCTIONS)]

    def scatter(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        """Put `updates`, (*picks, *slices), where `indices`, (*picks, depth), say."""
        depth = indices.shape[-1]
        outer, inner = x.shape[:depth], x.shape[depth:]
        rows = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
        for position, size in zip(indices.unbind(-1), outer, strict=True):
            rows = rows * size + _positive(position, size)
        width = math.prod(inner)
        flat = x.reshape(math.prod(outer), width)
        target = rows.reshape(-1, 1).expand(-1, width)
        source = updates.reshape(rows.numel(), width)
        return _scatter(flat, 0, target, source, reduce).reshape(x.shape)

    return scatter


def _scatter(x: Tensor, axis: int, index: Tensor, source: Tensor, reduce: str | None) -> Tensor:
    if reduce is None:
        return x.scatter(axis, index, source)
    return x.scatter_reduce(axis, index, source, reduce, include_self=True)


def _build_one_hot(node: NodeView) -> Kernel:
    axis = node.integer("axis", -1)

    def one_hot(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        """Insert an axis of `depth`: values[1] at the index, values[0] elsewhere."""
        count = int(depth.item())
        position = axis % (indices.ndim + 1)
        classes = torch.arange(count, device=indices.device)
        classes = classes.view(-1, *(1,) * (indices.ndim - position))
        hot = classes == _positive(indices, count).unsqueeze(position)
        return torch.where(hot, values[1], values[0])

    return one_hot


def _build_top_k(node: NodeView) -> Kernel:
    axis = node.integer("axis", -1)
    largest = node.flag("largest", True)
    node.ignore("sorted")  # sorted is one of the orders that unsorted allows

    def top_k(x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        # a stable sort, unlike torch.topk, gives equal values in the order of their positions
        values, positions = torch.sort(x, dim=axis, descending=largest, stable=True)
        k = int(count.item())
        return values.narrow(axis, 0, k), positions.narrow(axis, 0, k)

    return top_k


def _build_cumulative_sum(node: NodeView) -> Kernel:
    exclusive, reverse = node.flag("exclusive"), node.flag("reverse")

    def cumulative_sum(x: Tensor, axis: Tensor) -> Tensor:
        dim = int(axis.item())
        x = x.flip(dim) if reverse else x
        total = x.cumsum(dim, dtype=x.dtype)
        if exclusive:
            total = torch.cat((torch.zeros_like(x.narrow(dim, 0, 1)), total), dim)
            total = total.narrow(dim, 0, x.shape[dim])
        return total.flip(dim) if reverse else total

    return cumulative_sum


def _build_triangle(node: NodeView) -> Kernel:
    function = torch.triu if node.flag("upper", True) else torch.tril

    def triangle(x: Tensor, diagonal: Tensor | None = None) -> Tensor:
        return function(x, diagonal=0 if diagonal is None else int(diagonal.item()))

    return triangle


def _non_zero(x: Tensor) -> Tensor:
    return x.nonzero().t()


OPERATORS: Mapping[str, Operator] = {
    "CumSum": Operator(_build_cumulative_sum, host_inputs=_SECOND),
    "Gather": Operator(_build_gather),
    "GatherElements": Operator(_build_gather_elements),
    "GatherND": Operator(_build_gather_nd),
    "NonZero": plain(_non_zero),
    "OneHot": Operator(_build_one_hot, host_inputs=_SECOND),
    "ScatterElements": Operator(_build_scatter_elements),
    "ScatterND": Operator(_build_scatter_nd),
    "Slice": plain(_slice, host_inputs=frozenset({1, 2, 3, 4})),
    "TopK": Operator(_build_top_k, host_inputs=_SECOND, max_outputs=2),
    "Trilu": Operator(_build_triangle, host_inputs=_SECOND),
}
