"""Write a QDQ plan into a graph, so that ONNX Runtime runs exactly the planned nodes in integers.

Activations are uint8 or int8 with one step per tensor, weights int8 with one step per output
channel, biases int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from autosparse.calibration import ActivationRanges
from autosparse.errors import CompileError
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import Layer
from backends.qdq_plan import QdqPlan

# ONNX Runtime quantizes the float weights of these by itself when they stand between a DQ and a
# Q, although nobody asked for it. It leaves them alone when the DQ has a step per channel.
_QUANTIZED_UNASKED = frozenset({"Conv", "ConvTranspose", "Gemm"})

# Scale and zero point; the zero point's type is the type of the activations.
Grid = tuple[np.float32, np.uint8 | np.int8]


class GrowingGraph:
    """A graph to which things are added under names that are new to it.

    Names like `x_scale` are common, and the model may be one that was quantized before.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._taken = {str(value.name) for value in (*graph.inputs, *graph.initializers.values())}
        for node in ir.traversal.RecursiveGraphIterator(graph):
            self._taken.update((str(node.name), *(str(value.name) for value in node.outputs)))

    def new_name(self, wanted: str) -> str:
        """The wanted name, or the wanted name and a number; taken from now on."""
        name, number = wanted, 1
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name

    def add_initializer(
        self, wanted: str, array: npt.NDArray[np.generic], dtype: ir.DataType | None = None
    ) -> ir.Value:
        """Register a constant; `dtype` is told where the array holds the bits of another type."""
        name = self.new_name(wanted)
        tensor = ir.tensor(array, dtype=dtype, name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self.graph.register_initializer(value)
        return value

    def make_node(
        self, operator: str, inputs: list[ir.Value], prefix: str, output: str, **attributes: int
    ) -> ir.Node:
        """A node with one output, not yet placed."""
        node = ir.Node(
            "", operator, inputs, ir.convenience.convert_attributes(attributes),
            name=self.new_name(f"{prefix}_{operator}"), num_outputs=1,
        )  # fmt: skip
        node.outputs[0].name = self.new_name(f"{prefix}_{output}")
        return node


def activation_grids(
    plan: QdqPlan, ranges: ActivationRanges, activation_type: Literal["uint8", "int8"]
) -> dict[str, Grid]:
    """Grid of every tensor that the plan quantizes.

    Raises:
        CompileError: a tensor was not calibrated.
    """
    grids: dict[str, Grid] = {}
    for name, source in plan.tensors.items():
        found = ranges.tensors.get(source)
        if found is None:
            raise CompileError(f"the tensor {source!r} was not calibrated")
        signed = activation_type == "int8"
        grids[name] = found.signed_grid() if signed else found.unsigned_grid()
    return grids


def insert_qdq(
    growing: GrowingGraph,
    plan: QdqPlan,
    layers: Mapping[str, Layer],
    weights: Mapping[str, CompressedWeight],
    grids: Mapping[str, Grid],
) -> None:
    """Change the graph in place.

    Args:
        growing: a copy of the model's graph.
        plan: which tensors and nodes run in integers.
        layers: node name -> layer, for the int8 layers.
        weights: layer name -> its integer weight.
        grids: grids of the plan's tensors, from `activation_grids`.

    Raises:
        CompileError: a layer's weight has no integers.
    """
    graph = growing.graph
    values = _values_by_name(graph)
    for node in list(graph):
        layer = layers.get(str(node.name))
        if layer is not None:
            scale = grids[layer.input][0]
            _quantize_weight(growing, node, layer, weights[layer.name], scale)
    for name, grid in grids.items():
        _insert_pair(growing, plan, values[name], grid)


def _values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    values = {str(value.name): value for value in graph.inputs}
    values.update((str(v.name), v) for node in graph for v in node.outputs)
    return values


def _quantize_weight(
    growing: GrowingGraph,
    node: ir.Node,
    layer: Layer,
    weight: CompressedWeight,
    input_scale: np.float32,
) -> None:
    if weight.integers is None or weight.scales is None:
        raise CompileError(f"{layer.name}: its weight has no integers")
    integers = layer.from_matrix(weight.integers.astype(np.float32)).astype(np.int8)
    prefix = f"{layer.node}_weight"
    dequantized = _dequantize(
        growing, node, prefix, integers, weight.scales, np.int8, layer.output_axis
    )
    node.replace_input_with(1, dequantized)
    bias = _bias(node, layer, weight)
    if bias is None:
        return
    steps = (input_scale * weight.scales).astype(np.float32)
    limit = np.iinfo(np.int32)
    rounded = np.clip(np.rint(bias / steps), limit.min, limit.max).astype(np.int32)
    set_bias(node, _dequantize(growing, node, f"{layer.node}_bias", rounded, steps, np.int32, 0))


def set_bias(node: ir.Node, bias: ir.Value) -> None:
    """Let a Conv or Gemm read this bias, also where it had none."""
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, bias)


def _bias(node: ir.Node, layer: Layer, weight: CompressedWeight) -> npt.NDArray[np.float64] | None:
    """The bias that a layer's node is to have: the compressed weight's, else its own."""
    if weight.bias is not None and layer.operator != "MatMul":
        return weight.bias.astype(np.float64)
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy(), dtype=np.float64)


def _dequantize(
    growing: GrowingGraph,
    before: ir.Node,
    prefix: str,
    integers: npt.NDArray[np.generic],
    scales: npt.NDArray[np.float32],
    zero_type: type[np.generic],
    axis: int,
) -> ir.Value:
    inputs = [
        growing.add_initializer(f"{prefix}_quantized", integers),
        growing.add_initializer(f"{prefix}_scale", scales),
        growing.add_initializer(f"{prefix}_zero_point", np.zeros(len(scales), dtype=zero_type)),
    ]
    node = growing.make_node("DequantizeLinear", inputs, prefix, "dequantized", axis=axis)
    growing.graph.insert_before(before, node)
    return node.outputs[0]


def _insert_pair(growing: GrowingGraph, plan: QdqPlan, value: ir.Value, grid: Grid) -> None:
    """Put Q -> DQ behind `value` and hand the result to the readers that should see integers."""
    name = str(value.name)
    everyone = name in plan.produced
    readers = [use for use in value.uses() if everyone or str(use.node.name) in plan.nodes]
    constants = [
        growing.add_initializer(f"{name}_scale", np.asarray(grid[0])),
        growing.add_initializer(f"{name}_zero_point", np.asarray(grid[1])),
    ]
    quantize = growing.make_node("QuantizeLinear", [value, *constants], name, "quantized")
    dequantize = growing.make_node(
        "DequantizeLinear", [quantize.outputs[0], *constants], name, "dequantized"
    )
    _insert_after(growing.graph, value, [quantize, dequantize])
    guarded: ir.Node | None = None
    for use in readers:
        result = dequantize.outputs[0]
        if use.node.op_type in _QUANTIZED_UNASKED and str(use.node.name) not in plan.nodes:
            guarded = guarded or _guarded(growing, use.node, quantize, grid)
            result = guarded.outputs[0] if guarded else result
        use.node.replace_input_with(use.idx, result)
    if everyone and value.is_graph_output():
        _take_over_output(growing, value, dequantize.outputs[0])


def _guarded(
    growing: GrowingGraph, reader: ir.Node, quantize: ir.Node, grid: Grid
) -> ir.Node | None:
    """A DequantizeLinear with equal steps per channel, for a reader that stays in float32."""
    weight = reader.inputs[1]
    if weight is None or weight.shape is None:
        return None
    groups = reader.attributes.get("group")
    transposed = reader.attributes.get("transB")
    if reader.op_type == "Gemm":
        axis = 1 if transposed is not None and transposed.as_int() else 0
        channels = int(weight.shape.numpy()[axis])
    elif reader.op_type == "Conv":
        channels = int(weight.shape.numpy()[1]) * (1 if groups is None else groups.as_int())
    else:
        channels = int(weight.shape.numpy()[0])
    name = f"{quantize.outputs[0].name}_per_channel"
    scale, zero = grid
    inputs = [
        quantize.outputs[0],
        growing.add_initializer(f"{name}_scale", np.full(channels, scale, dtype=np.float32)),
        growing.add_initializer(f"{name}_zero_point", np.full(channels, zero, dtype=zero.dtype)),
    ]
    node = growing.make_node("DequantizeLinear", inputs, name, "dequantized", axis=1)
    growing.graph.insert_after(quantize, node)
    return node


def _insert_after(graph: ir.Graph, value: ir.Value, nodes: list[ir.Node]) -> None:
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    else:
        graph.insert_before(graph[0], nodes)


def _take_over_output(growing: GrowingGraph, old: ir.Value, new: ir.Value) -> None:
    """Let `new` be the graph output in place of `old`, under the name users know."""
    name, outputs = str(old.name), growing.graph.outputs
    new.shape, new.type = old.shape, old.type
    outputs[outputs.index(old)] = new
    old.name, new.name = growing.new_name(f"{name}_float"), name
