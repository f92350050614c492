"""What follows a layer and can be computed inside its kernel: bias, residual, activation, norm."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from backends.kernels.sparse_layer import Activation, Normalization

_ROOT_HALF = 0.7071067811865476
_TOLERANCE = 1e-5
_USUAL_EPSILON = 1e-5
"""Of a LayerNormalization that names none."""


@dataclass
class Epilogue:
    """A chain of nodes behind a layer, each the only reader of the one before."""

    value: ir.Value
    """What the chain ends in: the kernel's result takes its place."""
    nodes: list[ir.Node] = field(default_factory=list)
    """The nodes that go, the layer's own left out, in graph order."""
    bias: npt.NDArray[np.float32] | None = None
    """(outputs,): added behind a MatMul."""
    residual: ir.Value | None = None
    activation: Activation = Activation.NONE
    clip: tuple[float, float] | None = None
    norm: Normalization | None = None

    def absorb(self, *nodes: ir.Node) -> None:
        """Take nodes into the kernel; the last one's result becomes the chain's."""
        self.nodes.extend(nodes)
        self.value = nodes[-1].outputs[0]


def follow(node: ir.Node, outputs: int) -> Epilogue:
    """Find what a kernel can do besides the layer itself.

    Args:
        node: the layer's node, Conv, Gemm or MatMul.
        outputs: its output channels.
    """
    found = Epilogue(node.outputs[0])
    reader = _only_reader(found.value)
    if node.op_type == "MatMul" and reader is not None and reader.op_type == "Add":
        bias = _channel_constant(_other_input(reader, found.value), outputs, _rank(found.value))
        if bias is not None:
            found.bias = bias
            found.absorb(reader)
            reader = _only_reader(found.value)
    if reader is not None and reader.op_type == "Add":
        other = _other_input(reader, found.value)
        if other is not None and other.const_value is None and _same_shape(other, found.value):
            found.residual = other
            found.absorb(reader)
    if node.op_type != "Conv":
        _follow_norm(found, outputs)
        _follow_composed_norm(found, outputs)
    if found.norm is None:
        _follow_activation(found)
    return found


def _follow_norm(found: Epilogue, outputs: int) -> None:
    """Match a LayerNormalization over the last axis alone."""
    reader = _only_reader(found.value)
    if reader is None or reader.op_type != "LayerNormalization" or found.value.shape is None:
        return
    axis, epsilon = reader.attributes.get("axis"), reader.attributes.get("epsilon")
    last = -1 if axis is None else axis.as_int()
    if last not in (-1, len(found.value.shape) - 1) or any(v.uses() for v in reader.outputs[1:]):
        return
    rank = len(found.value.shape)
    scale = _channel_constant(reader.inputs[1], outputs, rank)
    shift: npt.NDArray[np.float32] | None = np.zeros(outputs, np.float32)
    if len(reader.inputs) > 2 and reader.inputs[2] is not None:
        shift = _channel_constant(reader.inputs[2], outputs, rank)
    if scale is None or shift is None:
        return
    least = _USUAL_EPSILON if epsilon is None else float(epsilon.as_float())
    found.norm = Normalization(scale, shift, least)
    found.absorb(reader)


def _follow_composed_norm(found: Epilogue, outputs: int) -> None:
    """Match (x - mean) / sqrt(variance + epsilon) * scale + shift.

    Files of opset 13 to 16 spell it so: LayerNormalization came with 17.
    """
    if found.norm is not None or found.value.shape is None:
        return
    rank = len(found.value.shape)
    mean = next((r for r in _readers(found.value) if _averages_channels(r, rank)), None)
    off = _only_reader(mean.outputs[0]) if mean else None
    if mean is None or off is None or not _is_of(off, "Sub", found.value, mean.outputs[0]):
        return
    deviation = _deviation(off.outputs[0], rank)
    unit = _only_reader(deviation[-1].outputs[0]) if deviation else None
    if unit is None or not _is_of(unit, "Div", off.outputs[0], deviation[-1].outputs[0]):
        return
    if set(_readers(found.value)) != {mean, off} or set(_readers(off.outputs[0])) != {
        deviation[0], unit
    }:  # fmt: skip
        return
    scaled, scale = _with_channels(unit, "Mul", outputs, rank)
    shifted, shift = _with_channels(scaled, "Add", outputs, rank)
    if scaled is None or shifted is None or scale is None or shift is None:
        return
    _, variance, raised, _ = deviation
    epsilon = _scalar(_other_input(raised, variance.outputs[0]), rank)
    if epsilon is not None and 0 <= epsilon < np.inf:
        found.norm = Normalization(scale, shift, epsilon)
        found.absorb(mean, off, *deviation, unit, scaled, shifted)


def _deviation(off: ir.Value, rank: int) -> tuple[ir.Node, ...]:
    """From x - mean to its root of variance + epsilon: four nodes, or none."""
    square = next((r for r in _readers(off) if _squares(r, off, rank)), None)
    variance = _only_reader(square.outputs[0]) if square else None
    raised = _only_reader(variance.outputs[0]) if variance else None
    root = _only_reader(raised.outputs[0]) if raised else None
    if square is None or variance is None or raised is None or root is None:
        return ()
    if not _averages_channels(variance, rank) or (raised.op_type, root.op_type) != ("Add", "Sqrt"):
        return ()
    return square, variance, raised, root


def _squares(node: ir.Node, value: ir.Value, rank: int) -> bool:
    if node.op_type == "Pow":
        return node.inputs[0] is value and _scalar(node.inputs[1], rank) == 2.0
    return _is_of(node, "Mul", value, value)


def _averages_channels(node: ir.Node, rank: int) -> bool:
    """Whether a node is the mean over the last axis, which stays with one element."""
    if node.op_type != "ReduceMean":
        return False
    kept, axes = node.attributes.get("keepdims"), node.attributes.get("axes")
    if kept is not None and kept.as_int() != 1:
        return False
    if axes is not None:
        return list(axes.as_ints()) in ([-1], [rank - 1])
    # an input from opset 18 on
    given = node.inputs[1] if len(node.inputs) > 1 else None
    return _scalar(given, rank=1) in (-1.0, rank - 1.0)


def _with_channels(
    node: ir.Node | None, operator: str, outputs: int, rank: int
) -> tuple[ir.Node | None, npt.NDArray[np.float32] | None]:
    """The only reader of a node, where it is that operator with a constant for each channel."""
    reader = _only_reader(node.outputs[0]) if node else None
    if node is None or reader is None or reader.op_type != operator:
        return None, None
    return reader, _channel_constant(_other_input(reader, node.outputs[0]), outputs, rank)


def _is_of(node: ir.Node, operator: str, *inputs: ir.Value) -> bool:
    """Whether a node is that operator of those values, in that order."""
    return node.op_type == operator and tuple(node.inputs) == inputs


def _follow_activation(found: Epilogue) -> None:
    reader = _only_reader(found.value)
    if reader is not None and reader.op_type == "Relu":
        found.activation = Activation.RELU
        found.absorb(reader)
    elif reader is not None and reader.op_type == "Clip":
        clip = _clip_bounds(reader)
        if clip is not None:
            found.activation, found.clip = Activation.CLIP, clip
            found.absorb(reader)
    elif reader is not None and reader.op_type == "Gelu":
        approximate = reader.attributes.get("approximate")
        if approximate is None or approximate.as_string() == "none":
            found.activation = Activation.GELU
            found.absorb(reader)
    else:
        _follow_composed_gelu(found)
        _follow_composed_silu(found)


def _follow_composed_silu(found: Epilogue) -> None:
    """Match x * Sigmoid(x)."""
    readers = _readers(found.value)
    by_type = {reader.op_type: reader for reader in readers}
    gate, product = by_type.get("Sigmoid"), by_type.get("Mul")
    if len(readers) != 2 or gate is None or product is None:
        return
    if set(product.inputs) == {found.value, gate.outputs[0]} and _is_private(gate.outputs[0]):
        found.activation = Activation.SILU
        found.absorb(gate, product)


def _follow_composed_gelu(found: Epilogue) -> None:
    """Match x * (1 + Erf(x / sqrt 2)) / 2, with the half multiplied before or after."""
    readers, rank = _readers(found.value), _rank(found.value)
    scaled = next((r for r in readers if _scales_by_root_half(r, rank)), None)
    error = _only_reader(scaled.outputs[0]) if scaled else None
    raised = _only_reader(error.outputs[0]) if error and error.op_type == "Erf" else None
    if scaled is None or error is None or raised is None:
        return
    if not _is_with(raised, "Add", 1.0, rank):
        return
    others = [reader for reader in readers if reader is not scaled]
    weighted = _only_reader(raised.outputs[0])
    if len(others) != 1 or weighted is None or weighted.op_type != "Mul":
        return
    first = others[0]
    if first is weighted:  # x * raised, then half of it
        last = _only_reader(weighted.outputs[0])
        if last is not None and _is_with(last, "Mul", 0.5, rank):
            found.activation = Activation.GELU
            found.absorb(scaled, error, raised, weighted, last)
    elif _is_with(first, "Mul", 0.5, rank) and _only_reader(first.outputs[0]) is weighted:
        found.activation = Activation.GELU
        found.absorb(scaled, first, error, raised, weighted)
    elif (
        _is_with(weighted, "Mul", 0.5, rank)
        and _only_reader(weighted.outputs[0]) is first
        and first.op_type == "Mul"
    ):
        found.activation = Activation.GELU
        found.absorb(scaled, error, raised, weighted, first)


def _scales_by_root_half(node: ir.Node, rank: int) -> bool:
    return _is_with(node, "Div", 1 / _ROOT_HALF, rank) or _is_with(node, "Mul", _ROOT_HALF, rank)


def _is_with(node: ir.Node, operator: str, number: float, rank: int) -> bool:
    """Whether a binary node combines a tensor of that rank with that one number, and keeps it."""
    if node.op_type != operator or len(node.inputs) != 2:
        return False
    candidates = node.inputs[1:] if operator == "Div" else node.inputs
    for value in candidates:
        constant = _scalar(value, rank)
        if constant is not None and abs(constant - number) <= _TOLERANCE:
            return True
    return False


def _scalar(value: ir.Value | None, rank: int = 0) -> float | None:
    """The one number of a constant of at most so many dimensions."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    if len(value.const_value.shape) > rank:
        return None
    return float(value.const_value.numpy().reshape(()))


def _clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    bounds = [-np.inf, np.inf]
    for index, value in enumerate(node.inputs[1:3]):
        if value is None:
            continue
        number = _scalar(value, rank=1)  # as runtimes take them
        if number is None:
            return None
        bounds[index] = number
    return float(bounds[0]), float(bounds[1])


def _readers(value: ir.Value) -> list[ir.Node]:
    """Distinct nodes that read a value; none where someone outside the graph does."""
    return [] if value.is_graph_output() else list(dict.fromkeys(value.consumers()))


def _only_reader(value: ir.Value) -> ir.Node | None:
    readers = _readers(value)
    return readers[0] if len(readers) == 1 and len(list(value.uses())) == 1 else None


def _is_private(value: ir.Value) -> bool:
    return _only_reader(value) is not None


def _other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    return next((v for v in node.inputs if v is not value), None)


def _rank(value: ir.Value) -> int:
    """Dimensions that a tensor has at least: a layer's result has one, whatever it reads.

    A constant with more of them gives its own number of dimensions to what is computed with it.
    """
    return 1 if value.shape is None else len(value.shape)


def _channel_constant(
    value: ir.Value | None, outputs: int, rank: int
) -> npt.NDArray[np.float32] | None:
    """(outputs,) where the constant holds one number for each output channel, the last axis.

    Args:
        value: the constant, or what is none.
        outputs: output channels.
        rank: of the tensor that it meets, whose shape must stay.
    """
    if value is None or value.const_value is None:
        return None
    constant = np.asarray(value.const_value.numpy(), dtype=np.float32)
    if constant.ndim > rank:
        return None
    if constant.size not in (1, outputs) or (constant.ndim and constant.shape[-1] != constant.size):
        return None
    return np.ascontiguousarray(np.broadcast_to(constant.reshape(-1), (outputs,)))


def _same_shape(left: ir.Value, right: ir.Value) -> bool:
    """Whether two shapes are known to be equal, free dimensions by name."""
    if left.shape is None or right.shape is None or len(left.shape) != len(right.shape):
        return False
    return all(
        a == b and (isinstance(a, int) or a.value is not None)
        for a, b in zip(left.shape, right.shape, strict=True)
    )
