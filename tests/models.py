"""Small ONNX models, built node by node, so that every test says what its graph is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

Floats: TypeAlias = npt.NDArray[np.float32]
Array: TypeAlias = npt.NDArray[np.generic]
OPSET = 17


class Net:
    """A graph under construction. Every method returns the name of a tensor."""

    def __init__(self, seed: int = 0, opset: int = OPSET) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.inputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def input(self, name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> str:
        """A graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        """An initializer."""
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """A random initializer whose rows keep the size of what they multiply."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        drawn = self.rng.standard_normal(shape) / np.sqrt(fan_in)
        return self.constant(name, drawn.astype(np.float32))

    def node(
        self, operator: str, *inputs: str, name: str | None = None, to: str = "", **attributes: Any
    ) -> str:
        """A node with one output, named like its node unless `to` says otherwise."""
        label = f"{operator}_{len(self.nodes)}" if name is None else name
        output = to or f"{label or operator}_out"
        self.nodes.append(helper.make_node(operator, inputs, [output], label, **attributes))
        return output

    def conv(
        self, source: str, name: str, cin: int, cout: int, size: int = 3, *,
        bias: bool = True, group: int = 1, **attributes: Any,
    ) -> str:  # fmt: skip
        """A convolution that keeps the image's size, unless the attributes say otherwise."""
        inputs = [source, self.weight(f"{name}.weight", cout, cin // group, size, size)]
        if bias:
            inputs.append(self.weight(f"{name}.bias", cout))
        given = {"pads": [size // 2] * 4, "kernel_shape": [size, size], "group": group}
        return self.node("Conv", *inputs, name=name, **{**given, **attributes})

    def model(self, *outputs: str, producer: str = "tests") -> onnx.ModelProto:
        """The finished model, the shapes of its outputs inferred."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            self.inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name=producer)
        model.ir_version = 9
        return shape_inference.infer_shapes(model, strict_mode=True)

    def save(self, path: Path, *outputs: str) -> Path:
        """Write the finished model."""
        onnx.save(self.model(*outputs), str(path))
        return path


def residual_cnn(seed: int = 0, batch: int | str = "batch", width: int = 8, size: int = 8) -> Net:
    """A stem, two residual blocks, pooling and a classifier: seven layers, output `logits`."""
    net = Net(seed)
    image = net.input("image", batch, 3, size, size)
    stem = net.node("Relu", net.conv(image, "stem", 3, width), name="stem.relu")
    first = net.node("Relu", net.conv(stem, "block1.a", width, width), name="block1.relu")
    second = net.conv(first, "block1.b", width, width)
    joined = net.node("Add", second, stem, name="block1.add")
    joined = net.node("Relu", joined, name="block1.out")
    wide = 2 * width
    third = net.conv(joined, "block2.a", width, wide, strides=[2, 2])
    fourth = net.conv(net.node("Relu", third, name="block2.relu"), "block2.b", wide, wide)
    short = net.conv(joined, "block2.short", width, wide, 1, strides=[2, 2], pads=[0, 0, 0, 0])
    added = net.node("Relu", net.node("Add", fourth, short, name="block2.add"), name="block2.out")
    flat = net.node("Flatten", net.node("GlobalAveragePool", added, name="pool"), name="flat")
    weight, bias = net.weight("classifier.weight", 10, wide), net.weight("classifier.bias", 10)
    net.node("Gemm", flat, weight, bias, name="classifier", to="logits", transB=1)
    return net


def classifier(seed: int = 0) -> Net:
    """Two Gemm layers with a Relu between them: `x` (batch, 6) -> `logits` (batch, 4)."""
    net = Net(seed)
    x = net.input("x", "batch", 6)
    first = net.node(
        "Gemm", x, net.weight("fc1.weight", 8, 6), net.weight("fc1.bias", 8), name="fc1", transB=1
    )
    hidden = net.node("Relu", first, name="relu")
    weight, bias = net.weight("fc2.weight", 4, 8), net.weight("fc2.bias", 4)
    net.node("Gemm", hidden, weight, bias, name="fc2", to="logits", transB=1)
    return net


def class_answering(path: Path) -> Path:
    """Write a model whose only output is the class: `x` (batch, 4) -> integers (batch, 1)."""
    net = Net()
    weight = net.weight("fc.weight", 4, 3)
    scores = net.node("Gemm", net.input("x", "batch", 4), weight, name="fc")
    net.node("ArgMax", scores, axis=1, to="class")
    model = net.model()
    answer = helper.make_tensor_value_info("class", TensorProto.INT64, ["batch", 1])
    model.graph.output.append(answer)
    onnx.save(model, str(path))
    return path


def block_with_norm() -> Net:
    """A normalization with two readers, and a product, its bias, a gate and a product.

    `x` (batch, 5, 8) -> `y` (batch, 5, 8).
    """
    net = Net(seed=2)
    x = net.input("x", "batch", 5, 8)
    scale, bias = net.weight("norm.weight", 8), net.weight("norm.bias", 8)
    normed = net.node("LayerNormalization", x, scale, bias, name="norm", axis=-1)
    query = net.node("MatMul", normed, net.weight("q.weight", 8, 8), name="q")
    up = net.node("MatMul", normed, net.weight("up.weight", 8, 16), name="up")
    shifted = net.node("Add", up, net.constant("up.bias", np.ones(16, np.float32)), name="shift")
    active = net.node("Sigmoid", shifted, name="act")
    down = net.node("MatMul", active, net.weight("down.weight", 16, 8), name="down")
    net.node("Add", down, query, name="join", to="y")
    return net


def images(rows: int, seed: int = 1, shape: Sequence[int] = (3, 8, 8)) -> Floats:
    """Inputs of `residual_cnn`."""
    return np.random.default_rng(seed).standard_normal((rows, *shape)).astype(np.float32)
