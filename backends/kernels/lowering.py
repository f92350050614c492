"""Put sparse kernels into a model: one custom node for a layer and what follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from autosparse.errors import CompileError
from autosparse.evaluation import LoweringRequest
from autosparse.levels import NM, Level, Precision
from autosparse.levels.bf16 import bf16_bits
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import Layer
from backends.kernels.epilogues import Epilogue, follow
from backends.kernels.limits import moves_too_far, why_not_convolved
from backends.kernels.operators import DOMAIN, VERSION, SparseOperator, store_runs
from backends.kernels.sparse_layer import KernelPlan, Number, all_runs, nonzero_runs
from backends.qdq_insertion import GrowingGraph

INT8_RUN = 4
"""Weights that the int8 kernels multiply at once: one 32-bit lane."""
BF16_RUN = 2
"""Weights that the bf16 kernels multiply at once, likewise."""
_GRID_TYPES = (ir.DataType.FLOAT, ir.DataType.UINT8)
"""Of the step and the zero of activations."""


@dataclass(frozen=True)
class SparseNode:
    """One layer that is to run as a sparse kernel."""

    layer: Layer
    level: Level
    weight: CompressedWeight
    bias: npt.NDArray[np.float32] | None
    """(output channels,): of the layer's own node, before anything was quantized."""
    plan: KernelPlan = field(default_factory=KernelPlan)

    @property
    def run(self) -> int:
        """Consecutive weights that are stored together."""
        if self.level.precision is Precision.BF16:
            return BF16_RUN
        integer = self.level.precision is Precision.INT8
        return INT8_RUN if integer and not isinstance(self.level.pattern, NM) else 1

    @property
    def nm_group(self) -> int:
        """M of an int8 N:M weight, else 0."""
        pattern = self.level.pattern
        integer = self.level.precision is Precision.INT8
        return pattern.group if integer and isinstance(pattern, NM) else 0


@dataclass(frozen=True)
class _Grids:
    """The integer tensors around an int8 layer."""

    input: ir.Value
    input_step: ir.Value
    input_zero: ir.Value
    quantize: ir.Node | None
    """The QuantizeLinear that alone reads the result, which the kernel then does itself."""


def plan_of(request: LoweringRequest, layer: Layer) -> KernelPlan:
    """What a request says of how a layer is computed.

    Raises:
        CompileError: its plan is none of the kernels'.
    """
    said = request.plans.get(layer.name)
    return KernelPlan() if said is None else KernelPlan.parse(said)


def use_fp32_kernel(
    growing: GrowingGraph, node: ir.Node, sparse: SparseNode
) -> SparseOperator | None:
    """Replace a layer's node by its kernel that reads and writes fp32.

    Returns:
        The operator that took its place; None for a layer that the kernels do not know, which
        stays dense, with zeros.
    """
    if _is_unknown(node, sparse.layer):
        return None
    epilogue = follow(node, sparse.layer.output_channels)
    operator = SparseOperator(
        convolution=node.op_type == "Conv", integer_input=False, integer_output=False,
        adds=epilogue.residual is not None, activation=epilogue.activation,
        normalizes=epilogue.norm is not None, bf16=sparse.level.precision is Precision.BF16,
    )  # fmt: skip
    x = node.inputs[0]
    values = sparse.weight.values * np.float32(_factor(node, "alpha"))
    stored = (
        # a negative zero has a bit, and is a zero to skip all the same
        _stored_weight(growing, sparse, bf16_bits(values + np.float32(0)))
        if operator.bf16
        else _stored_weight(growing, sparse, values)
    )
    inputs = {"x": x, **stored}
    _replace(growing, node, sparse, operator, epilogue, inputs, epilogue.value)
    return operator


def use_int8_kernel(
    growing: GrowingGraph, node: ir.Node, sparse: SparseNode
) -> SparseOperator | None:
    """Replace a layer's node, between its DQ and its Q, by its sparse int8 kernel.

    Returns:
        The operator that took its place; None for a layer that the kernels do not know, which
        stays dense, with zeros.

    Raises:
        CompileError: the weight has no integers.
    """
    weight = sparse.weight
    if weight.integers is None or weight.scales is None:
        raise CompileError(f"{sparse.layer.name}: its weight has no integers")
    if weight.scales.ndim != 1 or _is_unknown(node, sparse.layer):
        return None
    if _factor(node, "alpha") != 1.0:
        return None
    epilogue = follow(node, sparse.layer.output_channels)
    grids = _surrounding_grids(node, epilogue)
    if grids is None:
        return None
    result = grids.quantize.outputs[0] if grids.quantize else epilogue.value
    operator = SparseOperator(
        convolution=node.op_type == "Conv", integer_input=True,
        integer_output=grids.quantize is not None, adds=epilogue.residual is not None,
        activation=epilogue.activation, normalizes=epilogue.norm is not None,
    )  # fmt: skip
    inputs = {
        "x": grids.input, "x_step": grids.input_step, "x_zero": grids.input_zero,
        **_stored_weight(growing, sparse, weight.integers),
        "weight_steps": growing.add_initializer(f"{sparse.layer.node}_steps", weight.scales),
    }  # fmt: skip
    if grids.quantize is not None:
        inputs.update(y_step=grids.quantize.inputs[1], y_zero=grids.quantize.inputs[2])
        epilogue.nodes.append(grids.quantize)
    _replace(growing, node, sparse, operator, epilogue, inputs, result)
    return operator


def _surrounding_grids(node: ir.Node, epilogue: Epilogue) -> _Grids | None:
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    if source is None or source.op_type != "DequantizeLinear" or not _has_one_grid(source):
        return None
    integers, step, zero = source.inputs
    if integers is None or step is None or zero is None:
        return None
    quantize: ir.Node | None = None
    uses = list(epilogue.value.uses())
    # what is normalized stays fp32: a residual reads it, too
    if len(uses) == 1 and not epilogue.value.is_graph_output() and epilogue.norm is None:
        reader = uses[0].node
        # one of the model's own may have what no kernel writes
        if reader.op_type == "QuantizeLinear" and not uses[0].idx and _has_one_grid(reader):
            quantize = reader
    return _Grids(integers, step, zero, quantize)


def _has_one_grid(node: ir.Node) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear has one stored step, and a zero of uint8."""
    if len(node.inputs) != len(_GRID_TYPES) + 1:
        return False
    stored = [None if value is None else value.const_value for value in node.inputs[1:]]
    return all(
        constant is not None and constant.size == 1 and constant.dtype == dtype
        for constant, dtype in zip(stored, _GRID_TYPES, strict=True)
    )


def _stored_weight(
    growing: GrowingGraph, sparse: SparseNode, matrix: npt.NDArray[Number]
) -> dict[str, ir.Value | None]:
    layer, prefix = sparse.layer, sparse.layer.node
    runs = nonzero_runs if sparse.level.sparsity else all_runs
    stored = store_runs(*runs(matrix, sparse.run))
    shape: tuple[int, ...] = matrix.shape
    if layer.operator == "Conv":
        out, cin, height, width = layer.weight_shape
        shape = (out, height, width, cin)
    return {
        "values": growing.add_initializer(
            f"{prefix}_values",
            stored.values,
            ir.DataType.BFLOAT16 if matrix.dtype == np.uint16 else None,
        ),
        "gaps": growing.add_initializer(f"{prefix}_gaps", stored.gaps),
        "runs_shape": growing.add_initializer(
            f"{prefix}_runs_shape",
            np.array([matrix.size // sparse.run, sparse.run], np.int64),
        ),
        "weight_shape": growing.add_initializer(
            f"{prefix}_weight_shape", np.array(shape, np.int64)
        ),
    }


def _replace(
    growing: GrowingGraph,
    node: ir.Node,
    sparse: SparseNode,
    operator: SparseOperator,
    epilogue: Epilogue,
    inputs: Mapping[str, ir.Value | None],
    result: ir.Value,
) -> None:
    """Put the custom node where the last node of the chain stood."""
    layer = sparse.layer
    bias = _bias(node, sparse, epilogue)
    given: dict[str, ir.Value | None] = {
        **inputs, "residual": epilogue.residual,
        "bias": growing.add_initializer(f"{layer.node}_bias", bias),
    }  # fmt: skip
    if epilogue.clip is not None:
        for name, bound in zip(("low", "high"), epilogue.clip, strict=True):
            given[name] = growing.add_initializer(
                f"{layer.node}_{name}", np.asarray(bound, np.float32)
            )
    if epilogue.norm is not None:
        for name, numbers in (("scale", epilogue.norm.scale), ("shift", epilogue.norm.shift)):
            given[f"norm_{name}"] = growing.add_initializer(f"{layer.node}_norm_{name}", numbers)
    custom = ir.Node(
        DOMAIN, operator.name, [given[name] for name in operator.inputs],
        ir.convenience.convert_attributes(_attributes(node, sparse, epilogue)),
        name=layer.node, num_outputs=1,
    )  # fmt: skip
    produced = custom.outputs[0]
    produced.shape, produced.type = result.shape, result.type
    gone = [node, *epilogue.nodes]
    growing.graph.insert_after(gone[-1], custom)
    ir.convenience.replace_all_uses_with(result, produced, replace_graph_outputs=True)
    produced.name, result.name = result.name, growing.new_name(f"{layer.node}_replaced")
    growing.graph.remove(gone, safe=True)
    growing.graph.opset_imports[DOMAIN] = VERSION


def _attributes(
    node: ir.Node, sparse: SparseNode, epilogue: Epilogue
) -> dict[str, int | float | list[int]]:
    plan = sparse.plan
    attributes: dict[str, int | float | list[int]] = {}
    numbers = [int(plan.family), plan.vectors, plan.rows, plan.depth]
    if any(numbers):
        attributes["plan"] = numbers
    if sparse.nm_group:
        attributes["nm_group"] = sparse.nm_group
    if epilogue.norm is not None:
        attributes["epsilon"] = epilogue.norm.epsilon
    if node.op_type == "Conv":
        for name, usual in (("strides", [1, 1]), ("pads", [0] * 4), ("dilations", [1, 1])):
            found = node.attributes.get(name)
            attributes[name] = usual if found is None else list(found.as_ints())
        attributes["group"] = sparse.layer.groups
    return attributes


def _bias(node: ir.Node, sparse: SparseNode, epilogue: Epilogue) -> npt.NDArray[np.float32]:
    own = sparse.bias
    if sparse.weight.bias is not None and sparse.layer.operator != "MatMul":
        own = sparse.weight.bias
    bias = np.zeros(sparse.layer.output_channels, np.float32)
    if own is not None:
        bias += np.float32(_factor(node, "beta")) * own.astype(np.float32)
    return bias if epilogue.bias is None else bias + epilogue.bias


def _factor(node: ir.Node, name: str) -> float:
    found = node.attributes.get(name)
    return 1.0 if found is None else float(found.as_float())


def _is_unknown(node: ir.Node, layer: Layer) -> bool:
    """Whether it is a convolution that the kernels do not know."""
    if node.op_type != "Conv":
        return False
    return _has_unknown_padding(node) or moves_too_far(node) or bool(why_not_convolved(layer))


def _has_unknown_padding(node: ir.Node) -> bool:
    """Whether pads are only known with the size of the input."""
    found = node.attributes.get("auto_pad")
    return found is not None and found.as_string() not in ("NOTSET", "VALID", "")
