"""Another weight for the backward pass: products with gradients multiply with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from autosparse.errors import AutoSparseError

# What stands in for a saved weight: which one, and how the operator saw it.
_Place = tuple[int, torch.Size, tuple[int, ...], int]


def backwards_with(others: Mapping[int, Tensor]) -> saved_tensors_hooks:
    """A context in which operators save another weight than the one they multiply with.

    An operator saves its weight for one purpose: the gradient of its input. The gradient of the
    weight itself needs the input only, and stays what it is.

    Args:
        others: address of a weight's memory -> what is saved in its place, of the same shape, and
            contiguous like it.

    Raises:
        AutoSparseError: arithmetic is mixed: operators multiply with a rounded copy of a weight,
            which has another address.
    """
    if torch.is_autocast_enabled("cpu"):
        raise AutoSparseError("another weight for the backward pass needs fp32 arithmetic")

    def saved(values: Tensor) -> Tensor | _Place:
        address = values.untyped_storage().data_ptr()
        if address not in others:
            return values
        return address, values.size(), values.stride(), int(values.storage_offset())

    def found(kept: Tensor | _Place) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        address, size, stride, offset = kept
        return others[address].as_strided(size, stride, offset)

    return saved_tensors_hooks(saved, found)
