"""Small graphs in which it is hard to get exactly the asked layers into integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

from tests.models import Net

Built = tuple[Net, list[str]]
NETS: dict[str, Callable[[], Built]] = {}


def net_called(name: str) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        NETS[name] = build
        return build

    return register


def image(net: Net, channels: int = 3) -> str:
    return net.input("x", "n", channels, 8, 8)


def clip(net: Net, source: str, low: float, high: float, name: str = "clip") -> str:
    bounds = [net.constant(f"{name}.{n}", np.float32(v)) for n, v in (("lo", low), ("hi", high))]
    return net.node("Clip", source, *bounds, name=name)


def matmul(net: Net, source: str, name: str, rows: int, columns: int) -> str:
    return net.node("MatMul", source, net.weight(f"{name}.weight", rows, columns), name=name)


@net_called("float between integers")
def _chain() -> Built:
    net = Net()
    hidden = net.node("Relu", net.conv(image(net), "a", 3, 8), name="r1")
    hidden = net.node("Relu", net.conv(hidden, "b", 8, 8), name="r2")
    return net, [net.conv(hidden, "c", 8, 4)]


@net_called("output of a convolution")
def _output() -> Built:
    net = Net()
    hidden = net.conv(image(net), "a", 3, 8)
    return net, [hidden, net.conv(hidden, "b", 8, 4)]


@net_called("output of a convolution and of its activation")
def _two_outputs() -> Built:
    net = Net()
    hidden = net.conv(image(net), "a", 3, 8)
    return net, [hidden, net.node("Relu", hidden, name="r")]


@net_called("one tensor for integers and floats")
def _shared() -> Built:
    net = Net()
    hidden = net.node("Relu", net.conv(image(net), "a", 3, 8), name="r")
    pooled = net.node("MaxPool", hidden, name="pool", kernel_shape=[3, 3], pads=[1] * 4)
    joined = net.node("Add", net.conv(hidden, "b", 8, 8), net.conv(hidden, "c", 8, 8), name="s1")
    joined = net.node("Add", joined, pooled, name="s2")
    return net, [net.node("Sigmoid", joined, name="gate"), net.conv(joined, "d", 8, 4)]


@net_called("concatenation")
def _concat() -> Built:
    net = Net()
    x = image(net)
    left = net.node("Relu", net.conv(x, "a", 3, 8), name="r1")
    right = net.node("Relu", net.conv(x, "b", 3, 4), name="r2")
    return net, [net.conv(net.node("Concat", left, right, name="cat", axis=1), "c", 12, 4)]


@net_called("addition of the graph's input")
def _residual_of_input() -> Built:
    net = Net()
    x = image(net)
    return net, [net.conv(net.node("Add", net.conv(x, "a", 3, 3), x, name="add"), "b", 3, 4)]


@net_called("addition of a tensor to itself")
def _double() -> Built:
    net = Net()
    hidden = net.conv(image(net), "a", 3, 8)
    return net, [net.conv(net.node("Add", hidden, hidden, name="add"), "b", 8, 4)]


def _with_clip(low: float, high: float) -> Callable[[], Built]:
    def build() -> Built:
        net = Net()
        return net, [net.conv(clip(net, net.conv(image(net), "a", 3, 8), low, high), "b", 8, 4)]

    return build


NETS["clip to 0 and 6"] = _with_clip(0, 6)
NETS["clip to 0 and 1"] = _with_clip(0, 1)
NETS["clip to -1 and 1"] = _with_clip(-1, 1)


def _with_activation(operator: str) -> Callable[[], Built]:
    def build() -> Built:
        net = Net()
        hidden = net.node(operator, net.conv(image(net), "a", 3, 8), name="activation")
        return net, [net.conv(hidden, "b", 8, 4)]

    return build


for _operator in ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu"):
    NETS[f"activation {_operator}"] = _with_activation(_operator)


@net_called("gated activation")
def _silu() -> Built:
    net = Net()
    hidden = net.conv(image(net), "a", 3, 8)
    gated = net.node("Mul", hidden, net.node("Sigmoid", hidden, name="gate"), name="mul")
    return net, [net.conv(gated, "b", 8, 4)]


@net_called("pooling that lets a Q through")
def _pooling() -> Built:
    net = Net()
    hidden = net.conv(image(net), "a", 3, 8)
    pooled = net.node("MaxPool", hidden, name="pool", kernel_shape=[2, 2], strides=[2, 2])
    return net, [net.conv(pooled, "b", 8, 4)]


@net_called("slice, transpose and padding")
def _moving() -> Built:
    net = Net()
    hidden = net.conv(image(net), "a", 3, 8)
    bounds = [
        net.constant(n, np.array([v], np.int64)) for n, v in (("st", 0), ("en", 4), ("ax", 1))
    ]
    hidden = net.node("Slice", hidden, *bounds, name="slice")
    hidden = net.node("Transpose", hidden, name="turn", perm=[0, 1, 3, 2])
    pads = net.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    hidden = net.node("Pad", hidden, pads, name="pad")
    return net, [net.conv(hidden, "b", 4, 4, pads=[0] * 4)]


@net_called("split")
def _split() -> Built:
    net = Net()
    hidden = net.conv(image(net), "a", 3, 8)
    net.nodes.append(helper.make_node("Split", [hidden], ["s1", "s2"], "split", axis=1))
    return net, [net.node("Add", net.conv("s1", "b", 4, 4), net.conv("s2", "c", 4, 4), name="add")]


@net_called("grouped and depthwise")
def _groups() -> Built:
    net = Net()
    hidden = net.node("Relu", net.conv(image(net, 4), "a", 4, 8, group=2), name="r1")
    hidden = net.node("Relu", net.conv(hidden, "dw", 8, 16, group=8, bias=False), name="r2")
    return net, [net.conv(hidden, "c", 16, 4, 1)]


@net_called("strides, dilations and automatic padding")
def _windows() -> Built:
    net = Net()
    weight = net.weight("a.weight", 8, 3, 3, 3)
    hidden = net.node("Conv", image(net), weight, name="a", auto_pad="SAME_UPPER", strides=[2, 2])
    return net, [net.conv(hidden, "b", 8, 4, dilations=[2, 2], pads=[2] * 4)]


@net_called("one and three dimensions")
def _dimensions() -> Built:
    net = Net()
    line, cube = net.input("line", "n", 4, 16), net.input("cube", "n", 2, 4, 4, 4)
    kernels = net.weight("line.weight", 8, 4, 3), net.weight("cube.weight", 8, 2, 3, 3, 3)
    hidden = net.node("Conv", line, kernels[0], name="line.conv", pads=[1] * 2)
    solid = net.node("Conv", cube, kernels[1], name="cube.conv", pads=[1] * 6)
    return net, [net.node("Relu", hidden, name="r"), solid]


@net_called("transposed convolution")
def _upsampling() -> Built:
    net = Net()
    hidden = net.node("Relu", net.conv(image(net), "a", 3, 8), name="r")
    kernel = [net.weight("up.weight", 8, 8, 2, 2), net.weight("up.bias", 8)]
    hidden = net.node("ConvTranspose", hidden, *kernel, name="up", strides=[2, 2])
    return net, [net.conv(hidden, "b", 8, 4)]


@net_called("one weight for two layers")
def _tied() -> Built:
    net = Net()
    weight = net.weight("tied.weight", 4, 4, 3, 3)
    hidden = net.node("Conv", image(net, 4), weight, name="a", pads=[1] * 4)
    hidden = net.node("Relu", hidden, name="r")
    return net, [net.node("Conv", hidden, weight, name="b", pads=[1] * 4)]


def _with_gemm(transposed: int, *, bias: bool) -> Callable[[], Built]:
    def layer(net: Net, source: str, name: str, rows: int, columns: int) -> str:
        shape = (columns, rows) if transposed else (rows, columns)
        biases = [net.weight(f"{name}.bias", columns)] if bias else []
        weight = net.weight(f"{name}.weight", *shape)
        return net.node("Gemm", source, weight, *biases, name=name, transB=transposed)

    def build() -> Built:
        net = Net()
        hidden = net.node("Relu", layer(net, net.input("x", "n", 8), "a", 8, 8), name="r1")
        hidden = net.node("Tanh", layer(net, hidden, "b", 8, 8), name="t")
        return net, [net.node("Relu", layer(net, hidden, "c", 8, 4), name="r2")]

    return build


NETS["gemm"] = _with_gemm(0, bias=True)
NETS["gemm without bias"] = _with_gemm(0, bias=False)
NETS["gemm of a transposed weight"] = _with_gemm(1, bias=True)


def _with_matmul(rank: int, between: str) -> Callable[[], Built]:
    def build() -> Built:
        net = Net()
        x = net.input("x", "n", *([5] * (rank - 2)), 8)
        hidden = matmul(net, x, "a", 8, 12)
        if between == "bias":
            hidden = net.node("Add", hidden, net.weight("a.bias", 12), name="add")
        if between in ("Relu", "Tanh", "bias"):
            hidden = net.node("Tanh" if between == "Tanh" else "Relu", hidden, name="activation")
        if between == "clip":
            hidden = clip(net, hidden, -1, 1)
        return net, [net.node("Relu", matmul(net, hidden, "b", 12, 4), name="last")]

    return build


for _rank in (2, 3):
    for _between in ("nothing", "Relu", "clip", "Tanh", "bias"):
        NETS[f"matmul of {_rank} axes, {_between} between"] = _with_matmul(_rank, _between)


@net_called("matmul with two readers")
def _two_readers() -> Built:
    net = Net()
    hidden = matmul(net, net.input("x", "n", 5, 8), "a", 8, 8)
    both = net.node("Relu", hidden, name="r"), net.node("Tanh", hidden, name="t")
    return net, [matmul(net, net.node("Add", *both, name="add"), "b", 8, 4)]


@net_called("matmul alone")
def _alone() -> Built:
    net = Net()
    return net, [matmul(net, net.input("x", "n", 5, 8), "a", 8, 8)]


@net_called("attention")
def _attention() -> Built:
    net = Net()
    x = net.input("x", "n", 5, 8)
    query, key, value = (matmul(net, x, name, 8, 4) for name in ("q", "k", "v"))
    turned = net.node("Transpose", key, name="turn", perm=[0, 2, 1])
    scores = net.node("Softmax", net.node("MatMul", query, turned, name="scores"), name="softmax")
    return net, [matmul(net, net.node("MatMul", scores, value, name="mix"), "o", 4, 8)]


@net_called("embedding")
def _embedding() -> Built:
    net = Net()
    ids = net.input("ids", "n", 5, dtype=TensorProto.INT64)
    rows = net.node("Gather", net.weight("table", 10, 8), ids, name="gather")
    hidden = net.node("Relu", matmul(net, rows, "a", 8, 12), name="r")
    return net, [matmul(net, hidden, "b", 12, 4)]


@net_called("names that a lowering would like to use")
def _names() -> Built:
    """As some exporters call things, and as a model is named that was quantized before."""
    net = Net()
    x = image(net)
    weight, bias = net.weight("conv1_weight", 8, 3, 3, 3), net.weight("conv1_bias", 8)
    hidden = net.node("Conv", x, weight, bias, name="conv1", pads=[1] * 4)
    scale = net.constant("x_scale", np.float32(1.5))
    hidden = net.node("Mul", net.node("Relu", hidden, to="x_quantized"), scale, to="x_zero_point")
    hidden = net.node("Identity", hidden, name="x_QuantizeLinear", to="y_float")
    hidden = net.node("LeakyRelu", hidden, name="conv2_weight", to="conv1_weight_quantized")
    kernel = net.weight("conv2_weight_quantized", 4, 8, 3, 3)
    return net, [net.node("Conv", hidden, kernel, name="conv2", pads=[1] * 4, to="y")]


@net_called("nodes without a name")
def _unnamed() -> Built:
    net = Net()
    weights = net.weight("w1", 8, 3, 3, 3), net.weight("w2", 4, 8, 3, 3)
    hidden = net.node("Conv", image(net), weights[0], name="", to="h1", pads=[1] * 4)
    hidden = net.node("Relu", hidden, name="", to="h2")
    return net, [net.node("Conv", hidden, weights[1], name="", to="y", pads=[1] * 4)]
