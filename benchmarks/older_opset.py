"""Put a model into opset 13 for engines that read no newer one.

ONNX's own converter gives up at the first operator without a way back, however it is used. Here an
operator stays as it is where opset 13 has the same form of it, and a few are written out. Whether
the result means the same is not argued but tried: both files must give the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from onnx import NodeProto, helper, numpy_helper

from autosparse.errors import CompileError
from autosparse.evaluation import LoweredModel
from autosparse.evaluation.backend import Array

OPSET, _IR_VERSION = 13, 8
_FATAL_ONLY = 4
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4
_END = (1 << 31) - 1
# attributes of later opsets that nothing depends on here: no tensor of these models is empty
_IDLE = frozenset({("Reshape", "allowzero")})


def write_older(file: LoweredModel, inputs: Mapping[str, Array]) -> LoweredModel:
    """A copy of a model in opset 13, beside it; the file itself where it is no newer.

    Args:
        file: the model, of stock operators.
        inputs: of one inference, that both files are tried with.

    Raises:
        CompileError: an operator has no form in opset 13 that is known here, or the answers differ.
    """
    model = onnx.load(str(file.path))
    if all(imported.version <= OPSET for imported in model.opset_import):
        return file
    rewriter = _Rewriter({i.name: numpy_helper.to_array(i) for i in model.graph.initializer})
    nodes = [older for node in model.graph.node for older in rewriter.rewrite(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(rewriter.constants)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version = _IR_VERSION
    older = LoweredModel(file.directory, f"opset{OPSET}.onnx")
    onnx.save(model, str(older.path))
    _check_same_answers(file, older, inputs)
    return older


@dataclass
class _Rewriter:
    """Node by node, what opset 13 says instead."""

    initializers: Mapping[str, Array]
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def rewrite(self, node: NodeProto) -> Iterable[NodeProto]:
        """The nodes that take a node's place."""
        special: dict[str, Callable[[NodeProto], Iterable[NodeProto]]] = {
            "LayerNormalization": self._layer_normalization, "Gelu": self._gelu,
            "Shape": self._shape, "ReduceL2": self._reduction, "ReduceMean": self._reduction,
        }  # fmt: skip
        try:
            schema = onnx.defs.get_schema(node.op_type, OPSET, node.domain)
        except onnx.defs.SchemaError:
            schema = None
        unknown = [a for a in node.attribute if schema is None or a.name not in schema.attributes]
        if schema is not None and len(node.input) <= schema.max_input and not unknown:
            return [node]
        if node.op_type in special:
            return special[node.op_type](node)
        if schema is not None and all((node.op_type, a.name) in _IDLE for a in unknown):
            return [_without_attributes(node, {a.name for a in unknown})]
        raise CompileError(f"{node.name}: no form of {node.op_type} in opset {OPSET} is known here")

    def _layer_normalization(self, node: NodeProto) -> Iterable[NodeProto]:
        x, scale, *shift = node.input
        given = _attributes(node)
        axis, epsilon = int(given.get("axis", -1)), float(given.get("epsilon", 1e-5))
        if axis != -1:
            raise CompileError(f"{node.name}: LayerNormalization over more than the last axis")
        names = [f"{node.output[0]}_{part}" for part in "abcdefgh"]
        mean, centred, squared, variance, raised, root, unit, scaled = names
        yield helper.make_node("ReduceMean", [x], [mean], axes=[-1], keepdims=1)
        yield helper.make_node("Sub", [x, mean], [centred])
        yield helper.make_node("Pow", [centred, self._number(node, "two", 2.0)], [squared])
        yield helper.make_node("ReduceMean", [squared], [variance], axes=[-1], keepdims=1)
        yield helper.make_node("Add", [variance, self._number(node, "eps", epsilon)], [raised])
        yield helper.make_node("Sqrt", [raised], [root])
        yield helper.make_node("Div", [centred, root], [unit])
        last = scaled if shift else node.output[0]
        yield helper.make_node("Mul", [unit, scale], [last])
        if shift:
            yield helper.make_node("Add", [scaled, shift[0]], [node.output[0]])

    def _gelu(self, node: NodeProto) -> Iterable[NodeProto]:
        if _attributes(node).get("approximate", b"none") != b"none":
            raise CompileError(f"{node.name}: an approximate Gelu")
        (x,) = node.input
        scaled, error, raised, weighted = (f"{node.output[0]}_{part}" for part in "abcd")
        yield helper.make_node("Div", [x, self._number(node, "root", math.sqrt(2))], [scaled])
        yield helper.make_node("Erf", [scaled], [error])
        yield helper.make_node("Add", [error, self._number(node, "one", 1.0)], [raised])
        yield helper.make_node("Mul", [x, raised], [weighted])
        half = self._number(node, "half", 0.5)
        yield helper.make_node("Mul", [weighted, half], list(node.output))

    def _shape(self, node: NodeProto) -> Iterable[NodeProto]:
        given, whole = _attributes(node), f"{node.output[0]}_whole"
        bounds = [
            self._constant(f"{node.output[0]}_{name}", np.array([given.get(name, usual)], np.int64))
            for name, usual in (("start", 0), ("end", _END))
        ]
        yield helper.make_node("Shape", list(node.input), [whole])
        yield helper.make_node("Slice", [whole, *bounds], list(node.output))

    def _reduction(self, node: NodeProto) -> Iterable[NodeProto]:
        x, axes = node.input
        if axes not in self.initializers:
            raise CompileError(f"{node.name}: the axes of a {node.op_type} are computed")
        older = _without_attributes(node, {"noop_with_empty_axes"})
        older.input[:] = [x]
        older.attribute.append(helper.make_attribute("axes", self.initializers[axes].tolist()))
        yield older

    def _number(self, node: NodeProto, name: str, value: float) -> str:
        return self._constant(f"{node.output[0]}_{name}", np.array(value, np.float32))

    def _constant(self, name: str, values: Array) -> str:
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def _attributes(node: NodeProto) -> dict[str, int | float | bytes]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _without_attributes(node: NodeProto, names: set[str]) -> NodeProto:
    older = NodeProto()
    older.CopyFrom(node)
    del older.attribute[:]
    older.attribute.extend(a for a in node.attribute if a.name not in names)
    return older


def _check_same_answers(
    newer: LoweredModel, older: LoweredModel, inputs: Mapping[str, Array]
) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    answers = []
    for file in (newer, older):
        try:
            session = ort.InferenceSession(
                str(file.path), options, providers=["CPUExecutionProvider"]
            )
            answers.append(session.run(None, dict(inputs)))
        except Exception as error:  # the runtime's exceptions have no common base of their own
            reason = (str(error).splitlines() or [""])[0]
            raise CompileError(f"{file.entry} does not run: {reason}") from error
    for one, other in zip(*answers, strict=True):
        if not np.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE * np.abs(one).max()):
            raise CompileError(f"in opset {OPSET} the model answers something else")
