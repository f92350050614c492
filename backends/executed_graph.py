"""What ONNX Runtime makes of each layer, read off the graph it optimized for itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import onnx

from autosparse.evaluation import ExecutedLayer
from autosparse.model_graph import Layer, ModelGraph
from backends.kernels.operators import DOMAIN as SPARSE_DOMAIN
from backends.qdq_plan import fused_result
from backends.weights4 import OPERATOR

_INTEGER = frozenset(
    {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger",
     "MatMulInteger", "DynamicQuantizeMatMul"}
)  # fmt: skip
_FLOAT = frozenset({"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
_PACKED = frozenset({OPERATOR})
_OF_OURS: dict[str, Literal["bf16", "int8"]] = {"Q": "int8", "B": "bf16"}
"""By the first letter of an operator of ours; the others compute in fp32."""
# Fusions take over the name or the result of the operator that ends them.
_ENDINGS = frozenset({"Add", "Relu", "Clip", "Sigmoid", "Mul", "LeakyRelu", "Tanh", "HardSigmoid"})


def executed_layers(optimized: Path, graph: ModelGraph) -> dict[str, ExecutedLayer]:
    """Match the layers of `graph` with the operators of the optimized file.

    Args:
        optimized: what `SessionOptions.optimized_model_filepath` wrote.
        graph: the model graph that was lowered.

    Returns:
        Layer name -> what runs for it; a layer that cannot be matched is left out.
    """
    proto = onnx.load(str(optimized), load_external_data=False)
    weighted = [
        n
        for n in proto.graph.node
        if n.op_type in _INTEGER | _FLOAT | _PACKED or n.domain == SPARSE_DOMAIN
    ]
    by_name = {_original_name(node.name): node for node in weighted}
    by_output = {node.output[0]: node for node in weighted}
    found: dict[str, ExecutedLayer] = {}
    for layer in graph.layers:
        node = by_name.get(layer.node)
        for tensor in _possible_results(graph, layer) if node is None else ():
            node = node or by_output.get(tensor) or by_name.get(tensor)
        if node is not None:
            found[layer.name] = ExecutedLayer(
                kernel=node.op_type,
                precision=_precision(node),
                node=node.name,
                skips_zeros=node.domain == SPARSE_DOMAIN,
            )
    return found


def _original_name(name: str) -> str:
    """Drop what ONNX Runtime appends: `_token_12` when it rewrites a node, `_nchwc` for layout.

    `_pre_q` is what it calls a tensor when it moves a Q to the front of a pooling or alike.
    """
    stem, _, number = name.rpartition("_token_")
    name = stem if stem and number.isdigit() else name
    return name.removesuffix("_nchwc").removesuffix("_pre_q")


def _possible_results(graph: ModelGraph, layer: Layer) -> Iterable[str]:
    """Tensors that a fusion starting at the layer may end in, the nearest first."""
    node = next(n for n in graph.model.graph if n.name == layer.node)
    value = node.outputs[0]
    yield str(value.name)
    while True:
        readers = list(value.consumers())
        if len(readers) != 1 or readers[0].op_type not in _ENDINGS:
            break
        value = readers[0].outputs[0]
        yield str(value.name)
        yield str(readers[0].name)
    yield str(fused_result(node).name)


def _precision(node: onnx.NodeProto) -> Literal["fp32", "bf16", "int8", "int4", "other"]:
    if node.domain == SPARSE_DOMAIN:
        return _OF_OURS.get(node.op_type[:1], "fp32")
    if node.op_type in _INTEGER:
        return "int8"
    if node.op_type in _PACKED and any(a.name == "bits" and a.i == 4 for a in node.attribute):
        return "int4"
    return "fp32" if node.op_type in _FLOAT else "other"
