"""Which tensors carry a QuantizeLinear/DequantizeLinear pair, given the layers that are int8.

ONNX Runtime turns `DQ -> operator -> Q` into an integer kernel. Between two int8 layers stand
operators that can join them (an Add, a pooling): where all their inputs are integers already,
they join too, so that a residual network does not bounce through float32 at every block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import onnx_ir as ir

from autosparse.model_graph import Layer

# Integer kernels with a grid of their own for the result.
_JOINING = frozenset({"Add", "Concat", "AveragePool", "GlobalAveragePool"})
# Move values without changing them: the result keeps the grid of the input.
_MOVING = frozenset(
    {"Flatten", "Gather", "MaxPool", "Pad", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)


@dataclass
class QdqPlan:
    """What `insert_qdq` has to do. Tensors and nodes are named, so that a plan fits any copy."""

    nodes: set[str] = field(default_factory=set)
    """Nodes that run in integers."""
    tensors: dict[str, str] = field(default_factory=dict)
    """Tensor that is quantized -> the tensor whose range gives its grid."""
    produced: set[str] = field(default_factory=set)
    """Quantized tensors that exist in integers only: every reader gets the dequantized value."""


def plan_qdq(graph: ir.Graph, layers: Mapping[str, Layer]) -> QdqPlan:
    """Plan the pairs.

    Args:
        graph: the graph, in topological order.
        layers: node name -> layer, for the layers that are int8.
    """
    plan = QdqPlan()
    outputs = {value.name for value in graph.outputs}
    for node in graph:
        layer = layers.get(str(node.name))
        if layer is not None:
            plan.nodes.add(layer.node)
            plan.tensors.setdefault(layer.input, layer.input)
            _plan_result(plan, node, outputs)
        elif _joins(node, plan.produced):
            plan.nodes.add(str(node.name))
            source = node.inputs[0]
            result = fused_result(node)
            name = str(result.name)
            moved = node.op_type in _MOVING and source is not None
            plan.tensors[name] = plan.tensors[str(source.name)] if moved and source else name
            plan.produced.add(name)
    return plan


def _plan_result(plan: QdqPlan, node: ir.Node, outputs: AbstractSet[str | None]) -> None:
    """Whether the result of an int8 layer is quantized too.

    A convolution has no integer kernel without it. A matrix product has one that ends in
    float32, which is exact and needs no range; but not where a Relu or Clip follows.
    """
    result = fused_result(node)
    if node.op_type == "Gemm" and result.name in outputs:
        return
    if node.op_type == "MatMul" and not _is_clipped(node, outputs):
        return
    plan.tensors[str(result.name)] = str(result.name)
    plan.produced.add(str(result.name))


def fused_result(node: ir.Node) -> ir.Value:
    """The tensor after the activations that are fused into the node."""
    value = node.outputs[0]
    while not value.is_graph_output():
        readers = list(value.consumers())
        if len(readers) != 1 or not _is_fused(readers[0]):
            break
        value = readers[0].outputs[0]
    return value


def _is_clipped(node: ir.Node, outputs: AbstractSet[str | None]) -> bool:
    """Whether ONNX Runtime looks for the Q behind the reader, and finds no kernel without."""
    readers = list(node.outputs[0].consumers())
    if len(readers) != 1 or readers[0].op_type not in ("Relu", "Clip"):
        return False
    return node.outputs[0].name not in outputs and readers[0].outputs[0].name not in outputs


def _is_fused(node: ir.Node) -> bool:
    """Whether the grid of the result does the activation's work, so that the operator can go.

    A grid that starts at zero clips at zero; where else a Clip starts, the grid's zero point may
    be rounded to the wrong side of it.
    """
    if node.op_type != "Clip":
        return node.op_type == "Relu"
    low = node.inputs[1] if len(node.inputs) > 1 else None
    return low is not None and low.const_value is not None and not low.const_value.numpy().any()


def _joins(node: ir.Node, produced: AbstractSet[str]) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in _MOVING:
        sources = node.inputs[:1]
    elif node.op_type in _JOINING:
        sources = node.inputs
    else:
        return False
    return bool(sources) and all(v is not None and v.name in produced for v in sources)


def calibrated_tensors(graph: ir.Graph, layers: Mapping[str, Layer]) -> tuple[str, ...]:
    """Every tensor whose range some plan over a subset of `layers` may ask for.

    A layer that stays in float32 takes tensors out of a plan, or gives one that took over the
    grid of its source a grid of its own: the plan with all layers in integers names them all.
    """
    plan = plan_qdq(graph, layers)
    return tuple(dict.fromkeys([*plan.tensors.values(), *plan.tensors]))


def bare_conversions(graph: ir.Graph, plan: QdqPlan) -> dict[str, int]:
    """Conversions that remain as nodes of their own: name -> elements per row, 0 if unknown.

    The Q behind an integer kernel and the DQ before one are absorbed by it. What is left are a Q
    on a tensor that a float32 node wrote, and a DQ for the float32 readers of an integer tensor.
    """
    found: dict[str, int] = {}
    written = [value for node in graph for value in node.outputs]
    for value in [*graph.inputs, *written]:
        name = str(value.name)
        if name not in plan.tensors:
            continue
        if name not in plan.produced:
            found[f"quantize:{name}"] = elements_per_row(value)
        elif any(str(use.node.name) not in plan.nodes for use in value.uses()):
            found[f"dequantize:{name}"] = elements_per_row(value)
    return found


def elements_per_row(value: ir.Value) -> int:
    """Elements of one row: the batch and other free dimensions count as one."""
    if value.shape is None:
        return 0
    return math.prod(dim for dim in value.shape if isinstance(dim, int))
