"""What the nodes that ONNX Runtime executes do, counted from one inference and its own graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import onnx

from autosparse.evaluation.simulation import NodeWork, Pattern
from backends.kernels.operators import DOMAIN

_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "QLinearConv", "ConvInteger"})
_PRODUCTS = frozenset(
    {"MatMul", "FusedMatMul", "Gemm", "FusedGemm", "QGemm", "QLinearMatMul", "MatMulInteger",
     "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"}
)  # fmt: skip
# 4-bit weights are multiplied as floats
_INTEGER = frozenset(
    {"QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger",
     "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)  # fmt: skip
_ITEM_BYTES: dict[int, int] = {
    onnx.TensorProto.FLOAT: 4, onnx.TensorProto.INT32: 4, onnx.TensorProto.INT64: 8,
    onnx.TensorProto.DOUBLE: 8, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.BFLOAT16: 2,
}  # fmt: skip


class WorkCounter:
    """Counts the work of nodes by what the optimized graph says of their weights.

    Args:
        optimized: what the runtime made of the model; its weights are not looked at, but for the
            shapes that sparse ones carry.
    """

    def __init__(self, optimized: onnx.ModelProto) -> None:
        self._nodes = {node.name: node for node in optimized.graph.node}
        self._weights = {weight.name: weight for weight in optimized.graph.initializer}

    def work(self, name: str, traced: Mapping[str, Any]) -> NodeWork:
        """The work of one node.

        Args:
            name: the node's.
            traced: what the runtime's profile says of one run of it.
        """
        operator = str(traced["op_name"])
        inputs, outputs = _shapes(traced, "input"), _shapes(traced, "output")
        written = math.prod(outputs[0]) if outputs else 0
        node = self._nodes.get(name)
        weights = [] if node is None else [
            self._weights[i] for i in node.input if i in self._weights
        ]  # fmt: skip
        pattern: Pattern = "dense"
        integer = operator in _INTEGER
        if node is not None and node.domain == DOMAIN:
            integer = operator.startswith("Q")
            pattern, dense, kept = _sparse_macs(node, weights, written)
        elif operator in _CONVOLUTIONS and weights:
            weight = max(weights, key=lambda w: math.prod(w.dims))
            dense = kept = written * (math.prod(weight.dims) // max(weight.dims[0], 1))
        elif operator in _PRODUCTS and inputs and inputs[0]:
            dense = kept = written * inputs[0][-1]
        else:
            dense = kept = 0
        return NodeWork(
            node=name, operator=operator, precision="int8" if integer else "fp32",
            pattern=pattern, dense_macs=dense, kept_macs=kept,
            weight_bytes=sum(_bytes(weight) for weight in weights),
            activation_bytes=int(traced["activation_size"]) + int(traced["output_size"]),
        )  # fmt: skip


def _sparse_macs(
    node: onnx.NodeProto, weights: list[onnx.TensorProto], written: int
) -> tuple[Pattern, int, int]:
    """Pattern, multiply-accumulates of the dense weight, and of the runs that are stored."""
    stored = next(w for w in weights if len(w.dims) == 2)
    shape = [
        onnx.numpy_helper.to_array(w) for w in weights if w.data_type == onnx.TensorProto.INT64
    ]
    # the last one is the weight's own shape: outputs first
    dense_shape = [int(size) for size in shape[-1]]
    positions = written // max(dense_shape[0], 1)
    if any(attribute.name == "nm_group" for attribute in node.attribute):
        pattern: Pattern = "nm"
    else:
        # two neighbours in bf16 are one word of the loop for unstructured zeros
        single = 2 if node.op_type.startswith("B") else 1
        pattern = "block" if stored.dims[1] > single else "unstructured"
    return pattern, positions * math.prod(dense_shape), positions * math.prod(stored.dims)


def _shapes(traced: Mapping[str, Any], side: str) -> list[list[int]]:
    return [shape for typed in traced[f"{side}_type_shape"] for shape in typed.values()]


def _bytes(weight: onnx.TensorProto) -> int:
    return math.prod(weight.dims) * _ITEM_BYTES.get(weight.data_type, 1)
