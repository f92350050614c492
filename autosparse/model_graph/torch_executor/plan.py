"""From the nodes of a graph to the steps that run it, or to what cannot be run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import onnx.defs
import onnx_ir as ir

from autosparse.errors import ModelError
from autosparse.model_graph.intake import OLDEST_OPSET
from autosparse.model_graph.torch_executor.node import NodeView, UnsupportedNodeError
from autosparse.model_graph.torch_executor.operator import Kernel
from autosparse.model_graph.torch_executor.table import OPERATORS
from autosparse.model_graph.torch_executor.tensors import TORCH_DTYPES

# The definitions up to this opset are the ones the operators were written and tested against.
NEWEST_DEFINITION = 28
_STANDARD_DOMAINS = ("", "ai.onnx")
_NODES_NAMED = 3


@dataclass(frozen=True)
class Operand:
    """Where a step finds one input: among the constants, or among what was computed."""

    name: str
    is_constant: bool


@dataclass(frozen=True)
class Step:
    """One node, ready to run."""

    node: str
    operator: str
    kernel: Kernel
    inputs: tuple[Operand | None, ...]
    outputs: tuple[str, ...]
    """Names of what the kernel returns; empty for an output that nobody asked for."""
    host_inputs: frozenset[int]
    """Positions of the inputs that the kernel reads as numbers."""
    last_uses: tuple[str, ...]
    """Values that no later step and no graph output reads."""


Constants = Mapping[tuple[str, int], str]
"""(node, input position) -> the constant that this node alone reads there."""


def plan_steps(model: ir.Model, own_constants: Constants) -> tuple[Step, ...]:
    """Turn the nodes of a model, in their order, into steps.

    Args:
        model: sorted topologically, functions inlined.
        own_constants: inputs that are bound to another constant than the initializer in the graph.

    Raises:
        ModelError: names every operator that is missing.
    """
    refusals: dict[str, list[str]] = {}
    kernels: list[Kernel] = []
    nodes = list(model.graph)
    for index, node in enumerate(nodes):
        try:
            kernels.append(_build(node, _opset(model)))
        except UnsupportedNodeError as error:
            refusals.setdefault(error.message, []).append(node.name or f"#{index}")
    if refusals:
        raise ModelError(
            "the model cannot run in torch: " + "; ".join(_sentences(refusals)),
            hint="the job goes on through ONNX Runtime where no gradients are needed",
        )
    last_uses = _last_uses(model)
    return tuple(
        _step(node, kernel, own_constants, last_uses[index])
        for index, (node, kernel) in enumerate(zip(nodes, kernels, strict=True))
    )
