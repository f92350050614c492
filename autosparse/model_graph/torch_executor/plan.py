"""From the nodes of a graph to the steps that run it, or to what cannot be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx.defs
import onnx_ir as ir

from autosparse.errors import ModelError
from autosparse.model_graph.graph import ModelGraph
from autosparse.model_graph.intake import OLDEST_OPSET
from autosparse.model_graph.torch_executor.node import NodeView, UnsupportedNodeError
from autosparse.model_graph.torch_executor.operator import Kernel, Operator
from autosparse.model_graph.torch_executor.table import OPERATORS
from autosparse.model_graph.torch_executor.tensors import TORCH_DTYPES

# The definitions up to this opset are the ones that the operators were tested against.
NEWEST_DEFINITION = 28
_STANDARD_DOMAINS = ("", "ai.onnx")
_NODES_NAMED = 3


@dataclass(frozen=True)
class Operand:
    """Where a value is found while the graph runs."""

    name: str
    is_constant: bool
    """Whether `name` is the key of a constant, and not the name of a computed value."""


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
    """Computed values that no later step and no graph output reads."""


Bindings = Mapping[tuple[str, int], str]
"""(node, input position) -> key of the constant that is read there."""


def constant_key(kind: str, name: str) -> str:
    """Key of a constant, which torch takes as the name of a parameter: free of dots."""
    return f"{kind}:{name.replace('%', '%25').replace('.', '%2E')}"


def operand(value: ir.Value) -> Operand:
    """Where the value of a graph edge is found, if no binding says otherwise."""
    if value.is_initializer():
        return Operand(constant_key("constant", str(value.name)), is_constant=True)
    return Operand(str(value.name), is_constant=False)


def plan_steps(model: ir.Model, bindings: Bindings) -> tuple[Step, ...]:
    """Turn the nodes of a model, in their order, into steps.

    Raises:
        ModelError: names what is missing, and the nodes that ask for it.
    """
    kernels, missing = _build_kernels(model)
    if missing:
        raise ModelError(
            f"the model cannot run in torch, which misses {'; '.join(missing)}",
            hint="the job goes on through ONNX Runtime where no gradients are needed",
        )
    last_uses = _last_uses(model)
    return tuple(
        Step(
            node=str(node.name),
            operator=node.op_type,
            kernel=kernel,
            inputs=tuple(
                _bound_operand(node, position, bindings) for position in range(len(node.inputs))
            ),
            outputs=tuple(value.name or "" for value in node.outputs),
            host_inputs=OPERATORS[node.op_type].host_inputs,
            last_uses=unused,
        )
        for node, kernel, unused in zip(model.graph, kernels, last_uses, strict=True)
    )


def unsupported_operators(graph: ModelGraph) -> tuple[str, ...]:
    """Return what keeps a model graph from running in torch, each with the nodes that ask for it.

    An operator may be missing, or one of its attribute values, element types or outputs.
    """
    return find_unsupported(graph.model)


def find_unsupported(model: ir.Model) -> tuple[str, ...]:
    """Return what `unsupported_operators` does, for a bare model."""
    _, missing = _build_kernels(model)
    return missing


def _build_kernels(model: ir.Model) -> tuple[list[Kernel], tuple[str, ...]]:
    kernels: list[Kernel] = []
    refused: dict[str, list[str]] = {}
    opset = max((model.opset_imports.get(domain, 0) for domain in _STANDARD_DOMAINS), default=0)
    for index, node in enumerate(model.graph):
        try:
            kernels.append(_build_kernel(node, opset))
        except UnsupportedNodeError as error:
            refused.setdefault(error.message, []).append(node.name or f"#{index}")
    return kernels, tuple(f"{what} ({_list(nodes)})" for what, nodes in refused.items())


def _list(nodes: list[str]) -> str:
    named = ", ".join(repr(node) for node in nodes[:_NODES_NAMED])
    more = f" and {len(nodes) - _NODES_NAMED} more" if len(nodes) > _NODES_NAMED else ""
    return f"node{'s' if len(nodes) > 1 else ''} {named}{more}"


def _build_kernel(node: ir.Node, opset: int) -> Kernel:
    """Return what runs a node.

    Raises:
        UnsupportedNodeError: says what of the node is missing here.
    """
    operator = _find_operator(node, opset)
    for value in (*node.inputs, *node.outputs):
        if value is not None:
            _check_type(node, value)
    view = NodeView(node, opset)
    kernel = operator.build(view)
    if view.unread:
        view.refuse(f"attribute {', '.join(view.unread)}")
    return kernel


def _find_operator(node: ir.Node, opset: int) -> Operator:
    if node.domain not in _STANDARD_DOMAINS:
        raise UnsupportedNodeError(f"{node.domain}::{node.op_type}")
    if node.op_type not in OPERATORS:
        raise UnsupportedNodeError(node.op_type)
    operator = OPERATORS[node.op_type]
    if opset < OLDEST_OPSET or _defined_in(node.op_type, opset) > NEWEST_DEFINITION:
        raise UnsupportedNodeError(f"{node.op_type} as opset {opset} defines it")
    unknown = node.outputs[operator.max_outputs :] if operator.max_outputs else ()
    if any(value.name for value in unknown):
        raise UnsupportedNodeError(f"{node.op_type} with {len(node.outputs)} outputs")
    return operator


def _defined_in(operator: str, opset: int) -> int:
    """Opset in which an operator got the definition that it has in `opset`."""
    try:
        return onnx.defs.get_schema(operator, opset).since_version
    except onnx.defs.SchemaError as error:
        raise UnsupportedNodeError(f"{operator}, which opset {opset} does not define") from error


def _check_type(node: ir.Node, value: ir.Value) -> None:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise UnsupportedNodeError(f"{node.op_type} of no tensor")
    if value.dtype is not None and value.dtype not in TORCH_DTYPES:
        raise UnsupportedNodeError(f"{node.op_type} of {value.dtype.name.lower()} tensors")


def _bound_operand(node: ir.Node, position: int, bindings: Bindings) -> Operand | None:
    value = node.inputs[position]
    if value is None:
        return None
    key = bindings.get((str(node.name), position))
    return operand(value) if key is None else Operand(key, is_constant=True)


def _last_uses(model: ir.Model) -> list[tuple[str, ...]]:
    """For each node, the computed values that nobody reads after it."""
    needed = {str(value.name) for value in model.graph.outputs}
    released: list[tuple[str, ...]] = []
    for node in reversed(model.graph):
        values = [value for value in node.inputs if value and not value.is_initializer()]
        names = [str(value.name) for value in (*values, *node.outputs) if value.name]
        unused = tuple(name for name in dict.fromkeys(names) if name not in needed)
        needed.update(unused)
        released.append(unused)
    return released[::-1]
