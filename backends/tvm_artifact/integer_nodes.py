"""Integers between the layers: rounding to a grid, and sums of two grids, as functions of ours.

A residual network in INT8 adds uint8 tensors: between the layers of a block there is
DequantizeLinear, Add, perhaps Relu, QuantizeLinear. One function does it without going through fp32
in memory.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from backends.kernels.operators import DOMAIN

QUANTIZE, SUM = "ArtifactQuantize", "ArtifactSum"
"""Types of the nodes that stand for a rounding and for a sum."""
_GRID_INPUTS = 3
Grid = tuple[float, float]
"""Step and zero point."""


def take_integer_nodes(graph: ir.Graph) -> None:
    """Replace what the functions know, in place; what is not read any more stays behind."""
    for take in (_take_sum, _take_rounding):
        for node in list(graph):
            if node.op_type == "QuantizeLinear":
                take(graph, node)


def _take_sum(graph: ir.Graph, quantize: ir.Node) -> None:
    grid, last = _grid(quantize), _private_producer(quantize)
    if grid is None or last is None:
        return
    low = -math.inf
    if last.op_type == "Relu":
        low, last = 0.0, _private_producer(last)
    if last is None or last.op_type != "Add":
        return
    sources = [_dequantized(value) for value in last.inputs]
    shapes = [None if value is None else value.shape for value in last.inputs]
    if None in sources or None in shapes or shapes[0] != shapes[1]:
        return
    if not all(isinstance(dim, int) or dim.value is not None for dim in shapes[0] or ()):
        return
    (left, left_grid), (right, right_grid) = (source for source in sources if source is not None)
    numbers = [*left_grid, *right_grid, *grid, low]
    _replace(graph, quantize, SUM, [left, right], numbers)


def _take_rounding(graph: ir.Graph, quantize: ir.Node) -> None:
    grid, value = _grid(quantize), quantize.inputs[0]
    if grid is not None and value is not None and value.const_value is None:
        _replace(graph, quantize, QUANTIZE, [value], list(grid))


def _replace(
    graph: ir.Graph, node: ir.Node, operator: str, inputs: list[ir.Value], numbers: list[float]
) -> None:
    attributes = ir.convenience.convert_attributes({"numbers": [float(n) for n in numbers]})
    made = ir.Node(DOMAIN, operator, inputs, attributes, name=node.name, num_outputs=1)
    replace_node(graph, node, made)


def replace_node(graph: ir.Graph, node: ir.Node, made: ir.Node) -> None:
    """Put a node with one output in the place of another, whose output keeps its name."""
    old, new = node.outputs[0], made.outputs[0]
    new.shape, new.type = old.shape, old.type
    graph.insert_after(node, made)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    new.name, old.name = old.name, f"{old.name}_replaced"
    graph.remove(node, safe=True)


def _dequantized(value: ir.Value | None) -> tuple[ir.Value, Grid] | None:
    """The integers behind a value, and their grid."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    grid, integers = _grid(node), node.inputs[0]
    return None if grid is None or integers is None else (integers, grid)


def _grid(node: ir.Node) -> Grid | None:
    """One step and one zero of uint8, or None."""
    if len(node.inputs) != _GRID_INPUTS:
        return None
    step, zero = (None if v is None else v.const_value for v in node.inputs[1:])
    if step is None or zero is None or step.size != 1 or zero.size != 1:
        return None
    if zero.dtype != ir.DataType.UINT8 or step.dtype != ir.DataType.FLOAT:
        return None
    return float(step.numpy().reshape(())), float(zero.numpy().reshape(()))


def _private_producer(node: ir.Node) -> ir.Node | None:
    """What makes a node's first input, where nobody else reads that."""
    value = node.inputs[0]
    if value is None or value.is_graph_output() or len(list(value.uses())) != 1:
        return None
    return value.producer()
