"""The graph of an artifact as a Relax module.

TVM's own importer walks the graph; what is ours it is taught here: layers and matrix products call
functions of the kernel library, larger constants come out of the file of parameters, and sizes
that Relax loses are taken from the model graph, which knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

from backends.tvm_artifact.description import FIXED_ENTRY
from backends.tvm_artifact.integer_nodes import QUANTIZE, SUM
from backends.tvm_artifact.lowering import CONSTANT, LAYER

PARAMETERS = "parameters"
"""First input of the main function: what the library's `autosparse_load` returned."""
_GRID_FUNCTIONS = {QUANTIZE: "autosparse_quantize", SUM: "autosparse_add_uint8"}
_LEAST_RANK = 2
"""Of the operands of a matrix product."""


def import_graph(model: onnx.ModelProto, sizes: Mapping[str, int]) -> tvm.IRModule:
    """Import a graph that `artifact_graph` made.

    Args:
        model: the graph, without weights.
        sizes: name of a free dimension -> its size on the target; may be empty.

    Returns:
        A module whose function `main` takes the parameters, then the inputs of the model, of any
        size; and where sizes are given, a second one for those alone. Its memory is planned when
        it is compiled, and no size is computed while it runs.
    """
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    importer = _Importer(model, {})
    module = importer.from_onnx(model.graph, opset)
    if not sizes:
        return module
    fixed = _Importer(model, sizes)
    fixed.bb = _UnderAnotherName(importer.bb, FIXED_ENTRY)
    return fixed.from_onnx(model.graph, opset)


class _UnderAnotherName:
    """The builder of a module, for an importer that calls its function `main`."""

    def __init__(self, builder: relax.BlockBuilder, name: str) -> None:
        self._builder = builder
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._builder, attribute)

    def function(self, name: str, **fields: Any) -> Any:
        """Begin the function."""
        del name
        return self._builder.function(self._name, **fields)


class _Importer(ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer, with our operators."""

    def __init__(self, model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
        self._sizes: dict[str, Any] = dict(sizes)
        """Of dimensions that have a name: a number, or a variable where it stays free."""
        self._parameters = relax.Var(PARAMETERS, relax.ObjectType())
        shapes = {value.name: self._shape_of(value, new=True) for value in model.graph.input}
        self._known = {
            value.name: self._shape_of(value)
            for value in (*model.graph.value_info, *model.graph.output)
        }
        super().__init__(shapes, "float32", sanitize=False)
        self._inputs[PARAMETERS] = self._parameters

    def _shape_of(self, value: onnx.ValueInfoProto, *, new: bool = False) -> list[Any] | None:
        """Sizes, free ones as variables, which inputs bring along; None where one is not known."""
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            return None
        sizes: list[Any] = []
        for dim in tensor.shape.dim:
            if dim.HasField("dim_value"):
                sizes.append(dim.dim_value)
            elif dim.dim_param in self._sizes:
                sizes.append(self._sizes[dim.dim_param])
            elif new:
                variable = tirx.Var(dim.dim_param or f"{value.name}_{len(sizes)}", "int64")
                sizes.append(self._sizes.setdefault(variable.name, variable))
            else:
                return None
        return sizes

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        ours = (LAYER, CONSTANT, *_GRID_FUNCTIONS)
        others = onnx.GraphProto(node=[node for node in graph.node if node.op_type not in ours])
        super()._check_for_unsupported_ops(others)

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        self._output_of = {node.name: node.output[0] for node in graph.node}
        super()._construct_nodes(graph)

    def _convert_operator(
        self, op_name: str, inputs: Any, attrs: dict[str, Any], opset: int
    ) -> relax.Expr:
        given = [value for value in inputs if value is not None]
        if op_name == LAYER:
            return self._layer(given, attrs)
        if op_name == CONSTANT:
            return self._constant(attrs)
        if op_name in _GRID_FUNCTIONS:
            numbers = [tirx.const(number, "float64") for number in attrs["numbers"]]
            type_ = relax.TensorType(given[0].ty.shape, "uint8")
            return self._call(_GRID_FUNCTIONS[op_name], [*given, *numbers], type_)
        if op_name == "MatMul" and _multiplies(*given):
            return self._product(*given)
        if op_name == "Softmax" and _is_last(given[0], attrs.get("axis", -1)):
            return self._call("autosparse_softmax", [given[0]], given[0].ty)
        known = self._known.get(self._output_of[attrs["tvm_custom"]["name"]])
        if op_name == "Range" and known is not None and _counts(given):
            return self.bb.emit(relax.op.arange(0, known[0], 1, str(given[0].ty.dtype)))
        made = super()._convert_operator(op_name, inputs, attrs, opset)
        return made if known is None else self._with_shape(made, known)

    def _call(self, function: str, arguments: list[relax.Expr], type_: relax.TensorType) -> Any:
        """A function of ours: the parameters come first, and the result is written last."""
        call = relax.call_dps_packed(function, relax.Tuple([self._parameters, *arguments]), type_)
        return self.bb.emit(call)

    def _layer(self, inputs: list[relax.Expr], attrs: dict[str, Any]) -> Any:
        shape = list(inputs[0].ty.shape)
        if "kernel" in attrs:
            spatial = [_output_size(shape[2 + axis], attrs, axis) for axis in range(2)]
            result = [shape[0], attrs["outputs"], *spatial]
        else:
            result = [*shape[:-1], attrs["outputs"]]
        arguments = [relax.prim_value(attrs["index"]), *inputs]
        type_ = relax.TensorType(result, attrs["dtype"].decode())
        return self._call(attrs["function"].decode(), arguments, type_)

    def _constant(self, attrs: dict[str, Any]) -> Any:
        type_ = relax.TensorType(list(attrs["shape"]), attrs["dtype"].decode())
        index = relax.prim_value(attrs["index"])
        call = relax.op.call_pure_packed(
            "autosparse_tensor", self._parameters, index, ty_args=type_
        )
        return self.bb.emit(call)

    def _product(self, left: relax.Expr, right: relax.Expr) -> Any:
        shape = [*list(left.ty.shape)[:-1], list(right.ty.shape)[-1]]
        return self._call("autosparse_matmul", [left, right], relax.TensorType(shape, "float32"))

    def _with_shape(self, made: Any, known: list[Any]) -> Any:
        """Tell Relax a shape that it does not know of."""
        if not isinstance(made, relax.Expr):
            return made
        type_ = made.ty
        if not isinstance(type_, relax.TensorType) or type_.shape is not None:
            return made
        return self.bb.match_cast(made, relax.TensorType(known, type_.dtype))


def _multiplies(left: relax.Expr, right: relax.Expr) -> bool:
    """Whether both are fp32 tensors, of equal sizes but for the last two axes."""
    types = left.ty, right.ty
    if any(type_.shape is None or str(type_.dtype) != "float32" for type_ in types):
        return False
    shapes = [list(type_.shape) for type_ in types]
    if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < _LEAST_RANK:
        return False
    return all(
        tvm_ffi.structural_equal(a, b) for a, b in zip(shapes[0][:-2], shapes[1][:-2], strict=True)
    )


def _is_last(value: relax.Expr, axis: int) -> bool:
    if value.ty.shape is None or str(value.ty.dtype) != "float32":
        return False
    return axis in (-1, len(value.ty.shape) - 1)


def _output_size(size: Any, attrs: Mapping[str, Any], axis: int) -> Any:
    """Of a convolution along one axis of the image."""
    kernel, stride = attrs["kernel"][axis], attrs["strides"][axis]
    extent = attrs["dilations"][axis] * (kernel - 1) + 1
    padded = size + attrs["pads"][axis] + attrs["pads"][axis + 2]
    return (padded - extent) // stride + 1


def _counts(arguments: list[relax.Expr]) -> bool:
    """Whether a Range counts 0, 1, 2 ..."""
    constants: list[Any] = [getattr(one, "value", None) for one in (arguments[0], arguments[2])]
    if any(constant is None for constant in constants):
        return False
    return [int(constant.numpy()) for constant in constants] == [0, 1]
