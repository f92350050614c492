"""The QDQ plan: which tensors carry a pair, given the layers that are int8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autosparse.model_graph import ModelGraph, load_model
from backends.qdq_plan import QdqPlan, calibrated_tensors, plan_qdq
from tests.lowering import Subject
from tests.models import Net

Plan = Callable[..., QdqPlan]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Plan a net whose named layers are int8."""

    def plan_net(net: Net, outputs: list[str], integer: list[str]) -> QdqPlan:
        graph = load_model(net.save(tmp_path / "model.onnx", *outputs))
        return plan_layers(graph, integer)

    return plan_net


def plan_layers(graph: ModelGraph, integer: list[str]) -> QdqPlan:
    layers = {la.node: la for la in graph.layers if la.name in integer}
    assert len(layers) == len(integer)
    return plan_qdq(graph.model.graph, layers)


def own(*tensors: str) -> dict[str, str]:
    """Tensors with a grid of their own."""
    return {tensor: tensor for tensor in tensors}


def test_without_int8_layers_nothing_is_planned(residual: Subject) -> None:
    plan = plan_layers(residual.graph, [])
    assert (plan.nodes, plan.tensors, plan.produced) == (set(), {}, set())


def test_a_convolution_quantizes_its_input_and_what_its_activation_gives(plan: Plan) -> None:
    net = Net()
    net.node("Relu", net.conv(net.input("x", "n", 3, 8, 8), "conv", 3, 4), name="relu", to="y")
    found = plan(net, ["y"], ["conv"])
    assert found.nodes == {"conv"}
    assert found.tensors == own("x", "y")
    assert found.produced == {"y"}


def test_an_activation_that_others_read_too_is_not_fused(plan: Plan) -> None:
    net = Net()
    conv = net.conv(net.input("x", "n", 3, 8, 8), "conv", 3, 4)
    net.node("Add", net.node("Relu", conv, name="relu"), conv, name="add", to="y")
    found = plan(net, ["y"], ["conv"])
    assert found.tensors == own("x", "conv_out")
    assert found.produced == {"conv_out"}


def test_a_graph_output_is_not_passed_over(plan: Plan) -> None:
    net = Net()
    conv = net.conv(net.input("x", "n", 3, 8, 8), "conv", 3, 4)
    relu = net.node("Relu", conv, name="relu")
    found = plan(net, [conv, relu], ["conv"])
    assert found.produced == {"conv_out"}


@pytest.mark.parametrize(
    ("low", "is_fused"), [(0.0, True), (-1.0, False), (0.5, False), (None, False)]
)
def test_a_clip_is_fused_only_where_the_grid_clips_as_well(
    plan: Plan, low: float | None, is_fused: bool
) -> None:
    net = Net()
    conv = net.conv(net.input("x", "n", 3, 8, 8), "conv", 3, 4)
    bound = "" if low is None else net.constant("low", np.float32(low))
    net.node("Clip", conv, bound, net.constant("high", np.float32(6)), name="clip", to="y")
    assert plan(net, ["y"], ["conv"]).produced == ({"y"} if is_fused else {"conv_out"})


def test_a_clip_with_a_bound_from_outside_is_not_fused(plan: Plan) -> None:
    net = Net()
    conv = net.conv(net.input("x", "n", 3, 8, 8), "conv", 3, 4)
    net.node("Clip", conv, net.input("low"), name="clip", to="y")
    assert plan(net, ["y"], ["conv"]).produced == {"conv_out"}


def test_a_product_ends_in_float(plan: Plan) -> None:
    net = Net()
    hidden = net.node("MatMul", net.input("x", "n", 5, 8), net.weight("a.weight", 8, 8), name="a")
    net.node("MatMul", net.node("Tanh", hidden, name="t"), net.weight("b.weight", 8, 4), name="b",
             to="y")  # fmt: skip
    found = plan(net, ["y"], ["a", "b"])
    assert found.tensors == own("x", "t_out")
    assert found.produced == set()


def test_a_product_before_a_relu_is_quantized(plan: Plan) -> None:
    """Without it the runtime finds no integer kernel for the product."""
    net = Net()
    hidden = net.node("MatMul", net.input("x", "n", 5, 8), net.weight("a.weight", 8, 8), name="a")
    hidden = net.node("Relu", hidden, name="relu")
    net.node("MatMul", hidden, net.weight("b.weight", 8, 4), name="b", to="y")
    assert plan(net, ["y"], ["a"]).produced == {"relu_out"}


@pytest.mark.parametrize("is_last", [True, False])
def test_a_gemm_is_quantized_unless_it_is_the_output(plan: Plan, is_last: bool) -> None:
    net = Net()
    gemm = net.node("Gemm", net.input("x", "n", 8), net.weight("a.weight", 8, 4), name="a")
    output = gemm if is_last else net.node("Softmax", gemm, name="softmax")
    assert plan(net, [output], ["a"]).produced == (set() if is_last else {"a_out"})


def test_an_addition_joins_where_both_inputs_are_integers(plan: Plan) -> None:
    net = Net()
    x = net.input("x", "n", 3, 8, 8)
    added = net.node("Add", net.conv(x, "a", 3, 4), net.conv(x, "b", 3, 4), name="add")
    net.conv(net.node("Relu", added, name="relu"), "c", 4, 4)
    both = plan(net, ["c_out"], ["a", "b"])
    assert both.nodes == {"a", "b", "add"}
    assert both.tensors == own("x", "a_out", "b_out", "relu_out")
    one = plan(net, ["c_out"], ["a"])
    assert one.nodes == {"a"}
    assert one.tensors == own("x", "a_out")


def test_what_moves_values_keeps_their_grid(plan: Plan) -> None:
    net = Net()
    conv = net.conv(net.input("x", "n", 3, 8, 8), "conv", 3, 4)
    pooled = net.node("MaxPool", conv, name="pool", kernel_shape=[2, 2], strides=[2, 2])
    flat = net.node("Flatten", pooled, name="flat")
    net.node("Gemm", flat, net.weight("fc.weight", 64, 2), name="fc", to="y")
    found = plan(net, ["y"], ["conv", "fc"])
    assert found.tensors["pool_out"] == "conv_out"
    assert all(grid == "conv_out" for name, grid in found.tensors.items() if name != "x")


def test_what_computes_on_one_float_input_stays_out(plan: Plan) -> None:
    net = Net()
    x = net.input("x", "n", 3, 8, 8)
    joined = net.node("Concat", net.conv(x, "conv", 3, 4), x, name="cat", axis=1)
    net.node("Sigmoid", joined, name="sigmoid", to="y")
    assert plan(net, ["y"], ["conv"]).nodes == {"conv"}


def test_a_tensor_is_planned_once_however_many_layers_read_it(plan: Plan) -> None:
    net = Net()
    x = net.input("x", "n", 3, 8, 8)
    outputs = [net.conv(x, name, 3, 4) for name in ("a", "b", "c")]
    found = plan(net, outputs, ["a", "c"])
    assert found.tensors == own("x", "a_out", "c_out")


def test_every_plan_of_a_subset_asks_only_for_calibrated_tensors(residual: Subject) -> None:
    graph = residual.graph
    calibrated = set(calibrated_tensors(graph.model.graph, {la.node: la for la in graph.layers}))
    names = [layer.name for layer in graph.layers]
    for bits in range(2 ** len(names)):
        plan = plan_layers(graph, [name for i, name in enumerate(names) if bits >> i & 1])
        assert set(plan.tensors.values()) <= calibrated
        assert plan.produced <= plan.tensors.keys()
