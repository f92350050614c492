"""What an operator may ask of the graph node it is built from."""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn

import onnx_ir as ir
import torch
from torch import Tensor

from autosparse.errors import ModelError
from autosparse.model_graph.torch_executor.tensors import TORCH_DTYPES, to_torch


class UnsupportedNodeError(ModelError):
    """A node asks for something that the torch executor does not have; the message names it."""


class NodeFailedError(RuntimeError):
    """An operator fails on the values that it meets; the message names its node."""


class NodeView:
    """Typed, read-only access to a node, which notes every attribute that is read.

    An attribute that nobody reads would be ignored in silence; `unread` lets the caller refuse
    the node instead, so an operator that learns a new attribute in a later opset is noticed.
    """

    def __init__(self, node: ir.Node, opset: int) -> None:
        self.opset = opset
        self._node = node
        self._read: set[str] = set()

    @property
    def output_count(self) -> int:
        """Number of outputs, omitted ones in the middle included."""
        return len(self._node.outputs)

    @property
    def unread(self) -> tuple[str, ...]:
        """Attributes of the node that have not been asked for."""
        return tuple(name for name in self._node.attributes if name not in self._read)

    def has_input(self, position: int) -> bool:
        """Whether the input at `position` is connected."""
        inputs = self._node.inputs
        return position < len(inputs) and inputs[position] is not None

    def constant(self, position: int) -> Tensor | None:
        """Return the input at `position` where the file fixes its value."""
        value = self._node.inputs[position] if self.has_input(position) else None
        if value is None or value.const_value is None:
            return None
        return to_torch(value.const_value)

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        found = self.optional_integer(name)
        return default if found is None else found

    def required_integer(self, name: str) -> int:
        """Return an integer attribute that the operator's schema requires."""
        found = self.optional_integer(name)
        if found is None:
            self.refuse(f"no attribute {name}")
        return found

    def optional_integer(self, name: str) -> int | None:
        """Return an integer attribute, or None where it is absent."""
        found = self._attribute(name)
        return None if found is None else found.as_int()

    def flag(self, name: str, default: bool = False) -> bool:
        """Return an integer attribute that is 0 or 1."""
        return bool(self.integer(name, int(default)))

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return a list of integers, or None where it is absent."""
        found = self._attribute(name)
        return None if found is None else tuple(found.as_ints())

    def number(self, name: str, default: float) -> float:
        """Return a float attribute."""
        found = self.optional_number(name)
        return default if found is None else found

    def optional_number(self, name: str) -> float | None:
        """Return a float attribute, or None where it is absent."""
        found = self._attribute(name)
        return None if found is None else found.as_float()

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """Return a list of floats, or None where it is absent."""
        found = self._attribute(name)
        return None if found is None else tuple(found.as_floats())

    def text(self, name: str) -> str:
        """Return a string attribute; the operator's schema requires it."""
        found = self._attribute(name)
        if found is None:
            self.refuse(f"no attribute {name}")
        return found.as_string()

    def choice(self, name: str, default: str, known: Collection[str]) -> str:
        """Return a string attribute out of `known`.

        Raises:
            UnsupportedNodeError: the value is none of them.
        """
        found = self._attribute(name)
        value = default if found is None else found.as_string()
        if value not in known:
            self.refuse(f"{name} {value!r}")
        return value

    def tensor(self, name: str) -> Tensor | None:
        """Return a tensor attribute, or None where it is absent.

        Raises:
            UnsupportedNodeError: torch does not compute with its element type.
        """
        found = self._attribute(name)
        if found is None:
            return None
        value = found.as_tensor()
        if value.dtype not in TORCH_DTYPES:
            self.refuse(f"a {value.dtype.name.lower()} {name}")
        return to_torch(value)

    def dtype(self, name: str) -> torch.dtype | None:
        """Return the element type that an integer attribute stands for, None where it is absent.

        Raises:
            UnsupportedNodeError: torch does not compute with that type.
        """
        found = self.optional_integer(name)
        if found is None:
            return None
        onnx_type = ir.DataType(found)
        if onnx_type not in TORCH_DTYPES:
            self.refuse(f"{name}={onnx_type.name.lower()}")
        return TORCH_DTYPES[onnx_type]

    def ignore(self, *names: str) -> None:
        """Note attributes as read that cannot change what this operator computes here."""
        self._read.update(names)

    def refuse(self, what: str) -> NoReturn:
        """Refuse the node because of `what` it asks for.

        Raises:
            UnsupportedNodeError: always.
        """
        raise UnsupportedNodeError(f"{self._node.op_type} with {what}")

    def _attribute(self, name: str) -> ir.Attr | None:
        self._read.add(name)
        return self._node.attributes.get(name)
