"""Weighted operators that are no layers: each is listed, with what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autosparse.errors import ModelError
from autosparse.model_graph import ModelGraph, load_model
from tests.models import Net

Build = Callable[[Net], str]
QUANTIZED = "its weight is quantized already: give the model from before that"


def load(tmp_path: Path, model: onnx.ModelProto) -> ModelGraph:
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    return load_model(path)


def rows(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])


def flag(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.BOOL, [])


def body(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", inputs, outputs)


def choice(condition: str, source: str, weight: str) -> onnx.NodeProto:
    """An If that multiplies by a weight, or does not."""
    product = helper.make_node("MatMul", [source, weight], ["product_out"], "product")
    same = helper.make_node("Identity", [source], ["same_out"], "same")
    return helper.make_node(
        "If", [condition], ["chosen"], "choose",
        then_branch=body([product], [rows("product_out")]),
        else_branch=body([same], [rows("same_out")]),
    )  # fmt: skip


def test_a_layer_in_a_branch_is_listed_as_such(tmp_path: Path) -> None:
    net = Net()
    on = net.input("on", dtype=TensorProto.BOOL)
    hidden = net.node("MatMul", net.input("x", "n", 4), net.weight("fc.weight", 4, 4), name="fc")
    net.nodes.append(choice(on, hidden, net.weight("inner.weight", 4, 4)))
    graph = load(tmp_path, net.model("chosen"))
    assert [layer.name for layer in graph.layers] == ["fc"]
    assert graph.skipped == {"choose/then_branch/product": "it is inside the body of If 'choose'"}


def test_a_layer_in_a_loop_is_listed_however_deep_it_is(tmp_path: Path) -> None:
    net = Net()
    hidden = net.node("MatMul", net.input("x", "n", 4), net.weight("fc.weight", 4, 4), name="fc")
    weight = net.weight("inner.weight", 4, 4)
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    nodes = [
        helper.make_node("Identity", ["going_in"], ["going_out"], "going"),
        helper.make_node("MatMul", ["carried", weight], ["turned"], "turned"),
        choice("going_in", "turned", weight),
    ]
    loop = body(
        nodes, [flag("going_out"), rows("chosen")], [turn, flag("going_in"), rows("carried")]
    )
    turns, going = net.constant("turns", np.int64(3)), net.constant("going", np.bool_(True))
    net.node("Loop", turns, going, hidden, name="loop", to="y", body=loop)
    model = net.model("y")
    model.graph.output[0].CopyFrom(rows("y"))  # inference does not look into a loop
    graph = load(tmp_path, model)
    assert [layer.name for layer in graph.layers] == ["fc"]
    assert graph.skipped == {
        "loop/body/turned": "it is inside the body of Loop 'loop'",
        "loop/body/choose/then_branch/product": "it is inside the body of If 'choose'",
    }


@pytest.mark.parametrize(("operator", "listed"), [("FusedMatMul", True), ("BiasGelu", False)])
def test_what_the_runtime_fuses_is_listed_where_it_has_a_weight(
    tmp_path: Path, operator: str, listed: bool
) -> None:
    net = Net()
    hidden = net.node("MatMul", net.input("x", "n", 4), net.weight("fc.weight", 4, 4), name="fc")
    constant = net.weight("matrix", 4, 4) if listed else net.weight("bias", 4)
    model = net.model(hidden)
    domain = "com.microsoft"
    model.graph.node.append(
        helper.make_node(operator, [hidden, constant], ["y"], "f", domain=domain)
    )
    model.graph.output.append(rows("y"))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    graph = load(tmp_path, model)
    assert [layer.name for layer in graph.layers] == ["fc"]
    reason = (
        "FusedMatMul is an operator of ONNX Runtime's own: give the model from before that "
        "optimization"
    )
    assert graph.skipped == ({"f": reason} if listed else {})


def integer_product(net: Net) -> str:
    """Rows of uint8, multiplied by a matrix of int8 in integers."""
    x = net.node("Cast", net.input("x", "n", 4), name="down", to="x8")
    net.nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.UINT8))
    product = net.node(
        "MatMulInteger", x, net.constant("w", np.ones((4, 4), np.int8)), name="product"
    )
    up = net.node("Cast", product, name="up")
    net.nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    return up


def dequantized_product(net: Net) -> str:
    """Rows multiplied by a matrix that is stored as integers."""
    steps = net.constant("steps", np.float32(0.1))
    matrix = net.constant("w", np.arange(16, dtype=np.int8).reshape(4, 4))
    weight = net.node("DequantizeLinear", matrix, steps, name="unpack")
    return net.node("MatMul", net.input("x", "n", 4), weight, name="product")


@pytest.mark.parametrize("build", [integer_product, dequantized_product])
def test_a_model_that_is_quantized_already_is_told_what_to_do(tmp_path: Path, build: Build) -> None:
    net = Net()
    product = build(net)
    with pytest.raises(ModelError, match="no compressible layer") as caught:
        load(tmp_path, net.model(product))
    assert caught.value.hint.endswith(f"most of what is here is none because {QUANTIZED}")
    net.node("MatMul", product, net.weight("fc.weight", 4, 4), name="fc", to="y")
    graph = load(tmp_path, net.model("y"))
    assert [layer.name for layer in graph.layers] == ["fc"]
    assert graph.skipped == {"product": QUANTIZED}
