"""Operators that make a tensor out of little, and Dropout, which only may."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView, UnsupportedNodeError
from autosparse.model_graph.torch_executor.operator import Kernel, Operator

_TRAINING_MODE = 2  # input position of Dropout


def _build_constant(node: NodeView) -> Kernel:
    value = node.tensor("value")
    for integer in (node.optional_integer("value_int"), node.integers("value_ints")):
        if integer is not None:
            value = torch.tensor(integer, dtype=torch.int64)
    for number in (node.optional_number("value_float"), node.numbers("value_floats")):
        if number is not None:
            value = torch.tensor(number, dtype=torch.float32)
    if value is None:
        node.refuse("a value that is neither a tensor nor numbers")
    return lambda: value


def _build_constant_of_shape(node: NodeView) -> Kernel:
    value = node.tensor("value")
    fill = torch.zeros(1) if value is None else value
    return lambda shape: fill.reshape(()).repeat(shape.tolist())


def _build_eye_like(node: NodeView) -> Kernel:
    dtype = node.dtype("dtype")
    diagonal = node.integer("k", 0)

    def eye(x: Tensor) -> Tensor:
        row, column = (torch.arange(size, device=x.device) for size in x.shape)
        return (row.unsqueeze(1) + diagonal == column).to(dtype or x.dtype)

    return eye


def _build_range(node: NodeView) -> Kernel:
    node.ignore("stash_type")  # of 16-bit floats, which torch counts in 32 bits and more

    def count(start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
        first, last, stride = start.item(), limit.item(), step.item()
        if (last - first) * stride <= 0:
            return torch.empty(0, dtype=start.dtype)  # torch calls that an error
        return torch.arange(first, last, stride, dtype=start.dtype)

    return count


def _build_dropout(node: NodeView) -> Kernel:
    with_mask = node.output_count > 1
    node.ignore("seed")
    training_mode = node.constant(_TRAINING_MODE)
    if training_mode is not None and training_mode.item():
        node.refuse("training_mode")

    def dropout(
        x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        dropping = ratio is None or ratio.item() > 0
        if training is not None and training.item() and dropping:
            raise UnsupportedNodeError("Dropout with training_mode")
        return (x, torch.ones_like(x, dtype=torch.bool)) if with_mask else x

    return dropout


OPERATORS: Mapping[str, Operator] = {
    "Constant": Operator(_build_constant),
    "ConstantOfShape": Operator(_build_constant_of_shape, host_inputs=frozenset({0})),
    "Dropout": Operator(_build_dropout, host_inputs=frozenset({1, 2}), max_outputs=2),
    "EyeLike": Operator(_build_eye_like),
    "Range": Operator(_build_range, host_inputs=frozenset({0, 1, 2})),
}
