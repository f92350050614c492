"""From a recipe to what the compiler is given: a graph without weights, and the weights apart.

Every layer becomes one node that names its function and its number among the parameters; larger
constants become nodes likewise. So recipes that differ in weights and zeros only share their code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as ir_passes

from autosparse.errors import CompileError
from autosparse.evaluation import LoweringRequest
from autosparse.levels import Precision
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import Layer
from backends.kernels.limits import why_not_convolved
from backends.kernels.lowering import (
    INT8_RUN,
    SparseNode,
    plan_of,
    use_fp32_kernel,
    use_int8_kernel,
)
from backends.kernels.operators import DOMAIN, SparseOperator, StoredRuns
from backends.kernels.sparse_layer import (
    Activation,
    Convolution,
    Family,
    KernelPlan,
    Normalization,
    Quantization,
    SparseLayer,
)
from backends.qdq_insertion import GrowingGraph, activation_grids, insert_qdq
from backends.qdq_plan import plan_qdq
from backends.tvm_artifact.description import ArtifactLayer
from backends.tvm_artifact.integer_nodes import replace_node, take_integer_nodes
from backends.tvm_artifact.parameter_file import StoredLayer

Array = npt.NDArray[Any]

LAYER, CONSTANT = "ArtifactLayer", "ArtifactConstant"
"""Types of the nodes that stand for a layer and for a constant."""
ACTIVATION_TYPE: Literal["uint8"] = "uint8"
"""Of all int8 layers: what the kernels multiply."""


_IMAGE_WEIGHT = 4
"""Dimensions of the weight of a two-dimensional convolution."""


def why_not_int8(layer: Layer) -> str:
    """Why no int8 kernel runs a layer; empty where one does."""
    if not is_flat_or_image(layer):
        return f"{layer.name}: the int8 kernels know two-dimensional convolutions only"
    if layer.operator == "Conv" and (reason := why_not_convolved(layer)):
        return reason
    inner = layer.weight_shape[1] if layer.operator == "Conv" else layer.reduction
    if inner % INT8_RUN:
        return f"{layer.name}: the int8 kernels read {INT8_RUN} inputs at once, and it has {inner}"
    return ""


def is_flat_or_image(layer: Layer) -> bool:
    """Whether it is a matrix product or a convolution of images."""
    return layer.operator != "Conv" or len(layer.weight_shape) == _IMAGE_WEIGHT


@dataclass
class ArtifactGraph:
    """A recipe, divided into structure and numbers."""

    model: ir.Model
    layers: list[StoredLayer] = field(default_factory=list)
    described: list[ArtifactLayer] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)


def artifact_graph(request: LoweringRequest) -> ArtifactGraph:
    """Divide a recipe into structure and numbers.

    Raises:
        CompileError: a layer's weight is missing, or it cannot run at its level.
    """
    model = request.graph.copy_model()
    growing = GrowingGraph(model.graph)
    nodes = {str(node.name): node for node in model.graph}
    made = _Kernels(request, growing, nodes)
    integer: dict[str, Layer] = {}
    for layer in request.graph.layers:
        level = request.recipe.levels[layer.name]
        if not level.is_baseline and layer.name not in request.weights:
            raise CompileError(f"{layer.name}: no weight was made for {level}")
        if level.precision is Precision.INT8:
            integer[layer.node] = layer
        else:
            made.use_fp32(layer)
    plan = plan_qdq(model.graph, integer)
    grids = activation_grids(plan, request.ranges, ACTIVATION_TYPE)
    insert_qdq(growing, plan, integer, request.weights, grids)
    _tell_shapes(model.graph)
    for layer in integer.values():
        made.use_int8(layer)
    ir_passes.RemoveUnusedNodesPass()(model)
    graph = ArtifactGraph(model)
    for node in list(model.graph):
        operator = made.operators.get(str(node.name))
        if operator is not None:
            _take_layer(graph, node, operator)
    take_integer_nodes(model.graph)
    ir_passes.RemoveUnusedNodesPass()(model)
    _take_constants(graph)
    return graph


def _tell_shapes(graph: ir.Graph) -> None:
    """Rounding changes no shape, which the inserted nodes do not say."""
    for node in graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            source, result = node.inputs[0], node.outputs[0]
            # a rounded tensor has the type of its zero point, a real one that of its step
            typed = node.inputs[-1 if node.op_type == "QuantizeLinear" else 1]
            if result.shape is None and source is not None and typed is not None:
                result.shape, result.type = source.shape, typed.type


class _Kernels:
    """Kernels in place of layers."""

    def __init__(
        self, request: LoweringRequest, growing: GrowingGraph, nodes: Mapping[str, ir.Node]
    ) -> None:
        self._request = request
        self._growing = growing
        self._nodes = nodes
        self.operators: dict[str, SparseOperator] = {}
        """Node name -> the operator that took its place."""

    def use_fp32(self, layer: Layer) -> None:
        """A layer at an fp32 level; one that no kernel knows stays what it is, with its weight."""
        operator = None
        if is_flat_or_image(layer):
            operator = use_fp32_kernel(self._growing, self._nodes[layer.node], self._node(layer))
        if operator is not None:
            self.operators[layer.node] = operator
        elif layer.name in self._request.weights:
            raise CompileError(f"{layer.name}: the kernels do not know such a convolution")

    def use_int8(self, layer: Layer) -> None:
        """A layer between its DequantizeLinear and what follows it."""
        reason = why_not_int8(layer)
        if reason:
            raise CompileError(reason)
        operator = use_int8_kernel(self._growing, self._nodes[layer.node], self._node(layer))
        if operator is None:
            raise CompileError(f"{layer.name}: the int8 kernels do not know such a layer")
        self.operators[layer.node] = operator

    def _node(self, layer: Layer) -> SparseNode:
        graph = self._request.graph
        level = self._request.recipe.levels[layer.name]
        weight = self._request.weights.get(layer.name)
        if weight is None:
            weight = CompressedWeight(values=layer.to_matrix(graph.weight(layer)))
        return SparseNode(
            layer=layer, level=level, weight=weight, bias=graph.bias(layer),
            plan=plan_of(self._request, layer),
        )  # fmt: skip


def _take_layer(graph: ArtifactGraph, node: ir.Node, operator: SparseOperator) -> None:
    """Move a kernel's numbers out of the graph."""
    inputs = dict(zip(operator.inputs, node.inputs, strict=True))
    stored = _stored_layer(node, operator, inputs)
    kind = "convolution" if operator.convolution else "linear"
    precision = "int8" if operator.integer_input else "fp32"
    described = ArtifactLayer(
        node=str(node.name),
        function=f"autosparse_{kind}_{precision}",
        precision="int8" if operator.integer_input else "fp32",
        skips_zeros=len(stored.weight.gaps) > 0,
    )
    shape = stored.layer.convolution
    attributes: dict[str, Any] = {
        "function": described.function,
        "index": len(graph.layers),
        "outputs": stored.layer.outputs,
        "dtype": "uint8" if operator.integer_output else "float32",
    }
    if shape is not None:
        attributes |= {
            "kernel": shape.kernel, "strides": shape.strides, "dilations": shape.dilations,
            "pads": shape.pads,
        }  # fmt: skip
    given = [inputs["x"], *([inputs["residual"]] if operator.adds else [])]
    graph.layers.append(stored)
    graph.described.append(described)
    made = ir.Node(
        DOMAIN, LAYER, given, ir.convenience.convert_attributes(attributes),
        name=node.name, num_outputs=1,
    )  # fmt: skip
    replace_node(graph.model.graph, node, made)


def _stored_layer(
    node: ir.Node, operator: SparseOperator, inputs: Mapping[str, ir.Value | None]
) -> StoredLayer:
    values, gaps = _constant(inputs["values"]), _constant(inputs["gaps"])
    shape = [int(size) for size in _constant(inputs["weight_shape"])]
    outputs, depth = shape[0], int(np.prod(shape[1:]))
    clips = operator.activation is Activation.CLIP
    layer = SparseLayer(
        outputs=outputs,
        depth=depth,
        positions=np.zeros(0, np.int64),
        values=values[:0],
        run=values.shape[1],
        group=_integer(node, "nm_group"),
        bias=_constant(inputs["bias"]),
        quantization=_quantization(operator, inputs),
        convolution=_convolution(node, shape) if operator.convolution else None,
        activation=operator.activation,
        clip=(_number(inputs["low"]), _number(inputs["high"])) if clips else (0.0, 0.0),
        norm=_norm(node, inputs) if operator.normalizes else None,
        plan=_plan(node),
    )
    everything = len(values) * values.shape[1] == outputs * depth and bool((gaps == 1).all())
    return StoredLayer(layer, StoredRuns(values, gaps[:0] if everything else gaps))


def _quantization(
    operator: SparseOperator, inputs: Mapping[str, ir.Value | None]
) -> Quantization | None:
    if not operator.integer_input:
        return None
    grid = Quantization(
        input_step=_number(inputs["x_step"]),
        input_zero=int(_number(inputs["x_zero"])),
        weight_steps=_constant(inputs["weight_steps"]),
    )
    if not operator.integer_output:
        return grid
    return Quantization(
        grid.input_step, grid.input_zero, grid.weight_steps,
        output_step=_number(inputs["y_step"]), output_zero=int(_number(inputs["y_zero"])),
    )  # fmt: skip


def _convolution(node: ir.Node, shape: list[int]) -> Convolution:
    """Of a weight (outputs, kernel height, kernel width, channels of a group)."""
    groups = _integer(node, "group")
    top, left, bottom, right = node.attributes["pads"].as_ints()
    return Convolution(
        channels=shape[3] * groups, kernel=(shape[1], shape[2]),
        strides=_pair(node, "strides"), dilations=_pair(node, "dilations"),
        pads=(top, left, bottom, right), groups=groups,
    )  # fmt: skip


def _pair(node: ir.Node, name: str) -> tuple[int, int]:
    first, second = node.attributes[name].as_ints()
    return first, second


def _norm(node: ir.Node, inputs: Mapping[str, ir.Value | None]) -> Normalization:
    return Normalization(
        _constant(inputs["norm_scale"]), _constant(inputs["norm_shift"]),
        float(node.attributes["epsilon"].as_float()),
    )  # fmt: skip


def _plan(node: ir.Node) -> KernelPlan:
    found = node.attributes.get("plan")
    if found is None:
        return KernelPlan()
    family, vectors, rows, depth = found.as_ints()
    return KernelPlan(Family(family), vectors, rows, depth)


def _take_constants(graph: ArtifactGraph) -> None:
    """Move float constants with more than one number out of the graph.

    Whole numbers stay: they tell shapes, which the compiler must see.
    """
    model = graph.model.graph
    outputs = set(model.outputs)
    for value in list(model.initializers.values()):
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point() or tensor.size <= 1:
            continue
        if value in outputs or value.is_graph_input() or not value.uses():
            continue
        numbers = tensor.numpy()
        if numbers.dtype.kind != "f":  # a type that NumPy has no name for
            continue
        attributes: dict[str, Any] = {
            "index": len(graph.constants), "shape": numbers.shape, "dtype": str(numbers.dtype),
        }  # fmt: skip
        node = ir.Node(
            DOMAIN, CONSTANT, [], ir.convenience.convert_attributes(attributes),
            name=f"{value.name}_constant", num_outputs=1,
        )  # fmt: skip
        node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
        model.insert_before(model[0], node)
        ir.convenience.replace_all_uses_with(value, node.outputs[0])
        name = str(value.name)
        model.initializers.pop(name)
        node.outputs[0].name = name
        graph.constants.append(np.asarray(numbers))


def _constant(value: ir.Value | None) -> Array:
    if value is None or value.const_value is None:
        raise CompileError("a kernel's number is missing from the model")
    return np.asarray(value.const_value.numpy())


def _number(value: ir.Value | None) -> float:
    return float(_constant(value).reshape(()))


def _integer(node: ir.Node, name: str) -> int:
    found = node.attributes.get(name)
    return 0 if found is None else found.as_int()
