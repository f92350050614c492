"""What an entry of the operator table is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView

Kernel = Callable[..., Tensor | tuple[Tensor, ...]]
"""Computes a node: one argument per input, None for an input left out; never in place."""


@dataclass(frozen=True)
class Operator:
    """How the nodes of one operator are run."""

    build: Callable[[NodeView], Kernel]
    """Reads the node's attributes once and returns what runs it.

    Raises `UnsupportedNodeError` for an attribute value that is not there.
    """
    host_inputs: frozenset[int] = frozenset()
    """Inputs that are read as numbers (shapes, axes, counts): they are given on the CPU."""
    max_outputs: int | None = 1
    """Outputs that are computed; None where a node may have any number."""


def plain(kernel: Kernel, *, host_inputs: frozenset[int] = frozenset()) -> Operator:
    """Make the entry of an operator that has no attributes."""
    return Operator(lambda node: kernel, host_inputs=host_inputs)
