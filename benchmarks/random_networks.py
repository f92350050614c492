"""Models with random weights, built node by node: one layer each, or shaped like a known network.

Everything is opset 13, which every engine that is compared reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.kernel_shapes import ConvShape, LinearShape

_OPSET, _IR_VERSION = 13, 8
IMAGE_SIZE, IMAGE_CHANNELS = 224, 3
_CLASSES = 1000
# blocks, inner channels of each stage
_RESNET50_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
_EXPANSION = 4
# output channels, stride of each depthwise separable block
_MOBILENET_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
    (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
_MOBILENET_STEM = 32


class Network:
    """A graph under construction. Every method returns the name of a tensor."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int, fan_in: int) -> str:
        """Random numbers that keep the size of what they multiply, through a Relu."""
        drawn = self._rng.standard_normal(shape, dtype=np.float32)
        drawn *= np.float32(np.sqrt(2 / fan_in))
        return self._constant(drawn)

    def conv(self, source: str, shape: ConvShape, *, relu: bool = True) -> str:
        """A convolution with a bias, and a Relu where it asks for one."""
        inner = shape.inputs // shape.groups
        # what is added to something else is made smaller, or sums would grow from block to block
        fan_in = inner * shape.kernel**2 * (1 if relu else 4)
        weight = self.weight(shape.outputs, inner, shape.kernel, shape.kernel, fan_in=fan_in)
        bias = self._constant(np.zeros(shape.outputs, np.float32))
        result = self.node(
            "Conv", source, weight, bias, kernel_shape=[shape.kernel] * 2,
            strides=[shape.stride] * 2, pads=[shape.kernel // 2] * 4, group=shape.groups,
        )  # fmt: skip
        return self.node("Relu", result) if relu else result

    def classifier(self, source: str, inputs: int) -> str:
        """Mean over the image, then a matrix product with a bias."""
        pooled = self.node("Flatten", self.node("GlobalAveragePool", source))
        weight = self.weight(_CLASSES, inputs, fan_in=inputs)
        bias = self._constant(np.zeros(_CLASSES, np.float32))
        return self.node("Gemm", pooled, weight, bias, transB=1)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output."""
        name = f"{operator.lower()}_{len(self._nodes)}"
        made = helper.make_node(operator, inputs, [f"{name}_out"], name, **attributes)
        self._nodes.append(made)
        return f"{name}_out"

    def save(self, path: Path, inputs: tuple[int, ...], output: str) -> Path:
        """Write the model; rows of its input `x` and of its output are free."""
        graph = helper.make_graph(
            self._nodes, "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *inputs])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self._weights,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR_VERSION
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), str(path))
        return path

    def _constant(self, values: npt.NDArray[np.float32]) -> str:
        name = f"constant_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name


def linear_model(shape: LinearShape, path: Path) -> Path:
    """One matrix product, nothing else."""
    network = Network()
    weight = network.weight(shape.inputs, shape.outputs, fan_in=shape.inputs)
    return network.save(path, (shape.inputs,), network.node("MatMul", "x", weight))


def conv_model(shape: ConvShape, path: Path) -> Path:
    """One convolution and the Relu behind it."""
    network = Network()
    inputs = (shape.inputs, shape.size, shape.size)
    return network.save(path, inputs, network.conv("x", shape))


def resnet50(path: Path) -> Path:
    """ResNet-50 with its batch norms folded, strides on the 3x3 convolutions."""
    network = Network()
    x = network.conv("x", ConvShape(IMAGE_CHANNELS, 64, 7, IMAGE_SIZE, 2))
    x = network.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width, size = 64, IMAGE_SIZE // 4
    for stage, (blocks, inner) in enumerate(_RESNET50_STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = _bottleneck(network, x, ConvShape(width, inner, 3, size, stride), short=not block)
            width, size = inner * _EXPANSION, size // stride
    inputs = (IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
    return network.save(path, inputs, network.classifier(x, width))


def _bottleneck(network: Network, x: str, middle: ConvShape, *, short: bool) -> str:
    """1x1, the 3x3 in the middle, 1x1; beside them x, or a 1x1 that gives it the same shape.

    Args:
        network: takes the nodes.
        x: the block's input.
        middle: input channels of the block, inner channels, stride.
        short: whether the path beside the block has a convolution.
    """
    inner, size, after = middle.outputs, middle.size, middle.size // middle.stride
    y = network.conv(x, ConvShape(middle.inputs, inner, 1, size))
    y = network.conv(y, ConvShape(inner, inner, 3, size, middle.stride))
    y = network.conv(y, ConvShape(inner, inner * _EXPANSION, 1, after), relu=False)
    if short:
        wide = ConvShape(middle.inputs, inner * _EXPANSION, 1, size, middle.stride)
        x = network.conv(x, wide, relu=False)
    return network.node("Relu", network.node("Add", y, x))


def mobilenet_v1(path: Path) -> Path:
    """MobileNet v1: 3x3 depthwise and 1x1 convolutions in turn, batch norms folded."""
    network = Network()
    x = network.conv("x", ConvShape(IMAGE_CHANNELS, _MOBILENET_STEM, 3, IMAGE_SIZE, 2))
    width, size = _MOBILENET_STEM, IMAGE_SIZE // 2
    for outputs, stride in _MOBILENET_BLOCKS:
        x = network.conv(x, ConvShape(width, width, 3, size, stride, groups=width))
        size //= stride
        x = network.conv(x, ConvShape(width, outputs, 1, size))
        width = outputs
    inputs = (IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
    return network.save(path, inputs, network.classifier(x, width))
