"""Weights of 4 bits: a matrix product becomes `com.microsoft::MatMulNBits`.

Its input and its result stay float32, so that the int8 layers around it see a float32 layer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from autosparse.errors import CompileError
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import Layer
from backends.qdq_insertion import GrowingGraph

DOMAIN, OPERATOR = "com.microsoft", "MatMulNBits"
BLOCK = 32
# 4 rounds every block of 32 inputs to int8 at run time and multiplies in integers. That adds an
# error an order of magnitude below that of the 4-bit weights themselves, and is what makes the
# kernel fast: 0 and 1 unpack the weights to float32, and are about as slow as the float32 product.
_ACCURACY_LEVEL = 4
# The operator knows unsigned weights only; without zero points it takes this one for granted.
_ZERO = 8


def why_not_4_bits(layer: Layer) -> str:
    """Why the operator cannot stand in for the layer; empty where it can."""
    if layer.operator == "Conv":
        return f"{layer.name}: ONNX Runtime has 4-bit matrix products only, no 4-bit Conv"
    if layer.reduction % BLOCK:
        return (
            f"{layer.name}: 4-bit weights come in blocks of {BLOCK}, and its {layer.reduction} "
            "weights per output are no multiple of that"
        )
    return ""


def use_4_bits(
    growing: GrowingGraph, node: ir.Node, layer: Layer, weight: CompressedWeight
) -> None:
    """Turn the layer's MatMul or Gemm into the operator, in place: its result keeps its name.

    Raises:
        CompileError: the layer or the weight has not the operator's form.
    """
    reason = why_not_4_bits(layer)
    if reason:
        raise CompileError(reason)
    if weight.integers is None or weight.scales is None or weight.block != BLOCK:
        raise CompileError(f"{layer.name}: its weight has no integers in blocks of {BLOCK}")
    alpha, beta = _factor(node, "alpha"), _factor(node, "beta")
    bias = _bias(node, layer, weight)
    prefix = f"{layer.node}_weight"
    inputs: list[ir.Value | None] = [
        node.inputs[0],
        growing.add_initializer(f"{prefix}_packed", packed(weight.integers)),
        growing.add_initializer(f"{prefix}_scale", (weight.scales * alpha).astype(np.float32)),
    ]
    if bias is not None:
        stored = (bias * beta).astype(np.float32)
        # zero points and the order of groups are left out
        inputs += [None, None, growing.add_initializer(f"{layer.node}_bias", stored)]
    node.domain, node.op_type, node.version = DOMAIN, OPERATOR, None
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
    node.attributes.clear()
    attributes = {
        "K": layer.reduction,
        "N": layer.output_channels,
        "bits": 4,
        "block_size": BLOCK,
        "accuracy_level": _ACCURACY_LEVEL,
    }
    node.attributes.update({a.name: a for a in ir.convenience.convert_attributes(attributes)})
    growing.graph.opset_imports[DOMAIN] = 1


def packed(integers: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Two weights to a byte, the first in the low half.

    Args:
        integers: (output channels, K), -8 to 7.

    Returns:
        (output channels, blocks, BLOCK / 2).
    """
    unsigned = (integers.astype(np.int16) + _ZERO).astype(np.uint8)
    blocks = unsigned.reshape(len(integers), -1, BLOCK)
    return np.ascontiguousarray(blocks[..., 0::2] | (blocks[..., 1::2] << 4))


def _factor(node: ir.Node, name: str) -> float:
    found = node.attributes.get(name)
    return 1.0 if found is None else float(found.as_float())


def _bias(node: ir.Node, layer: Layer, weight: CompressedWeight) -> npt.NDArray[np.float32] | None:
    """(output channels,): what a Gemm adds, which may be stored as one number for all."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if weight.bias is not None and layer.operator != "MatMul":
        bias = weight.bias
    elif value is not None and value.const_value is not None:
        bias = np.asarray(value.const_value.numpy(), dtype=np.float32)
    else:
        return None
    return np.broadcast_to(bias, (layer.output_channels,))
