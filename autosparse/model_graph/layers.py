"""Find the layers of a normalized graph and give them names that people recognise."""

from __future__ import annotations

import re
from collections import Counter

import onnx_ir as ir

from autosparse.model_graph.graph import Layer, Operator

_OPERATORS: dict[str, Operator] = {"Conv": "Conv", "Gemm": "Gemm", "MatMul": "MatMul"}
_STANDARD_DOMAINS = ("", "ai.onnx")
_RUNTIME_DOMAIN = "com.microsoft"
_QUANTIZED = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})
_IS_QUANTIZED = "its weight is quantized already: give the model from before that"
NAME_SCOPES = "pkg.torch.onnx.name_scopes"
_WEIGHT_SUFFIX = re.compile(r"(?<=.)[._/](weight|kernel|w|W)$")
_GENERATED = re.compile(r"^(val_\d+|onnx::\w+_\d+|\d+|_?v_?\d+|.*_transposed)$")


def module_scopes(model: ir.Model) -> dict[str, str]:
    """Node name -> module path, as torch's exporter noted it. Read before metadata is stripped."""
    scopes: dict[str, str] = {}
    for node in model.graph:
        noted = node.metadata_props.get(NAME_SCOPES, "")
        # the property is the repr of a list of dotted paths, outermost first, the last the op
        paths = [path for path in re.findall(r"'([^']*)'", noted) if path]
        if node.name and len(paths) >= 2:
            scopes[node.name] = paths[-2]
    return scopes


def find_layers(
    model: ir.Model, scopes: dict[str, str]
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Return the layers in graph order, and the weighted operators that are none with the reason.

    Args:
        model: normalized; every node has a unique name.
        scopes: what `module_scopes` returned before metadata was stripped.
    """
    found: list[Layer] = []
    skipped: dict[str, str] = {}
    for node in model.graph:
        described = _described(node, scopes)
        if isinstance(described, Layer):
            found.append(described)
        elif described:
            skipped[str(node.name)] = described
        skipped.update(_skipped_in_bodies(node))
    return _with_unique_names(found), skipped


def _skipped_in_bodies(node: ir.Node) -> dict[str, str]:
    """Weighted operators in the bodies of an If, Loop or Scan, each with the reason.

    Nothing there is a layer: calibration, executor and backends see the tensors of the graph only.
    """
    skipped: dict[str, str] = {}
    for attribute in node.attributes.values():
        if attribute.type != ir.AttributeType.GRAPH:
            continue
        inside = f"it is inside the body of {node.op_type} {str(node.name)!r}"
        found: dict[str, str] = {}
        for inner in attribute.as_graph():
            described = _described(inner, {})
            if described:
                found[str(inner.name)] = inside if isinstance(described, Layer) else described
            found.update(_skipped_in_bodies(inner))
        skipped.update(
            (f"{node.name}/{attribute.name}/{name}", reason) for name, reason in found.items()
        )
    return skipped


def _described(node: ir.Node, scopes: dict[str, str]) -> Layer | str:
    """A weighted operator as a layer, or why it is none; empty for any other operator."""
    if node.domain == _RUNTIME_DOMAIN:
        return _why_not_fused(node)
    if node.domain not in _STANDARD_DOMAINS:
        return ""
    if node.op_type in _QUANTIZED:
        return _IS_QUANTIZED
    operator = _OPERATORS.get(node.op_type)
    if operator is None:
        return ""
    source, weight = node.inputs[0], node.inputs[1]
    if source is None or weight is None or weight.const_value is None:
        return _why_no_weight(node, source, weight)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return _why_not(node, source, weight.const_value, bias) or Layer(
        name=_human_name(node, str(weight.name), scopes),
        node=str(node.name),
        operator=operator,
        input=str(source.name),
        output=str(node.outputs[0].name),
        weight=str(weight.name),
        weight_shape=tuple(int(dim) for dim in weight.const_value.shape.numpy()),
        bias=None if bias is None else str(bias.name),
        groups=_integer(node, "group", 1),
        transposed=bool(_integer(node, "transB", 0)),
    )


def _why_not_fused(node: ir.Node) -> str:
    """Why what ONNX Runtime fuses operators to is no layer; empty where it has no weight."""
    constants = [value.const_value for value in node.inputs if value is not None]
    if not any(constant is not None and len(constant.shape) > 1 for constant in constants):
        return ""
    return (
        f"{node.op_type} is an operator of ONNX Runtime's own: give the model from before that "
        "optimization"
    )


def _why_no_weight(node: ir.Node, source: ir.Value | None, weight: ir.Value | None) -> str:
    """Why what stands where a layer has its weight is none."""
    if _is_dequantized(weight):
        return _IS_QUANTIZED
    if source is not None and source.const_value is not None and node.op_type != "Conv":
        return "its constant is on the left, and the weight of a layer is on the right"
    return "its weight is computed at run time"


def _is_dequantized(weight: ir.Value | None) -> bool:
    """Whether it is a constant of integers that a DequantizeLinear turns into floats."""
    node = None if weight is None else weight.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return False
    return node.inputs[0] is not None and node.inputs[0].const_value is not None


def _why_not(
    node: ir.Node, source: ir.Value, weight: ir.TensorProtocol, bias: ir.Value | None
) -> str:
    """Why an operator with a constant weight is no layer; empty when it is one."""
    if weight.dtype != ir.DataType.FLOAT:
        return f"its weight is {weight.dtype.name.lower()}, not float32"
    rank = len(weight.shape)
    if node.op_type in ("Gemm", "MatMul") and rank != 2:
        return f"its weight has {rank} dimensions, not 2"
    if node.op_type == "Conv" and rank < 3:
        return f"its weight has {rank} dimensions, not 3 or more"
    if node.op_type == "Gemm" and _integer(node, "transA", 0):
        return "it reads its activations transposed"
    if source.const_value is not None:
        return "its input is a constant"
    if 0 in weight.shape.numpy():
        return "its weight is empty"
    if bias is not None and (bias.const_value is None or len(bias.const_value.shape) != 1):
        return "its bias is no constant vector"
    return ""


def _human_name(node: ir.Node, weight: str, scopes: dict[str, str]) -> str:
    """The module path: from the weight's name, else from the exporter's scopes, else the node."""
    if not _GENERATED.match(weight) and _WEIGHT_SUFFIX.search(weight):
        return _WEIGHT_SUFFIX.sub("", weight)
    return scopes.get(str(node.name)) or str(node.name)


def _with_unique_names(layers: list[Layer]) -> tuple[Layer, ...]:
    """Number the layers that share a name: a module called twice, a tied weight."""
    total = Counter(layer.name for layer in layers)
    seen: Counter[str] = Counter()
    unique: list[Layer] = []
    for layer in layers:
        seen[layer.name] += 1
        if total[layer.name] > 1:
            name = f"{layer.name}#{seen[layer.name]}"
            layer = Layer(**{**layer.__dict__, "name": name})
        unique.append(layer)
    return tuple(unique)


def _integer(node: ir.Node, attribute: str, default: int) -> int:
    found = node.attributes.get(attribute)
    return default if found is None else found.as_int()
