"""Layers: what counts as one, what it is called, and its weight seen as a matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autosparse.errors import AutoSparseError
from autosparse.model_graph import Layer, ModelGraph, load_model
from tests.models import Net


def load(tmp_path: Path, net: Net, *outputs: str) -> ModelGraph:
    return load_model(net.save(tmp_path / "model.onnx", *outputs))


def names(graph: ModelGraph) -> list[str]:
    return [layer.name for layer in graph.layers]


def test_every_operator_with_a_constant_weight_is_a_layer(tmp_path: Path) -> None:
    net = Net()
    image = net.input("image", "batch", 4, 8, 8)
    conv = net.conv(image, "conv", 4, 8, group=2)
    flat = net.node("Flatten", net.node("GlobalAveragePool", conv, name="pool"), name="flat")
    gemm = net.node("Gemm", flat, net.weight("gemm.weight", 8, 6), name="gemm")
    net.node("MatMul", gemm, net.weight("matmul.weight", 6, 3), name="matmul", to="y")
    graph = load(tmp_path, net, "y")
    assert graph.layers == (
        Layer("conv", "conv", "Conv", "image", "conv_out", "conv.weight", (8, 2, 3, 3),
              "conv.bias", groups=2),
        Layer("gemm", "gemm", "Gemm", "flat_out", "gemm_out", "gemm.weight", (8, 6), None),
        Layer("matmul", "matmul", "MatMul", "gemm_out", "y", "matmul.weight", (6, 3), None),
    )  # fmt: skip
    assert graph.skipped == {}
    assert graph.layer("gemm") is graph.layers[1]
    with pytest.raises(AutoSparseError, match="no layer 'other'"):
        graph.layer("other")


@pytest.mark.parametrize(
    ("weight", "name"),
    [
        ("features.0.conv.weight", "features.0.conv"),
        ("encoder/layer_0/kernel", "encoder/layer_0"),
        ("block.w", "block"),
        ("block_W", "block"),
        ("fc.weight_quantized", "node"),
        ("onnx::MatMul_123", "node"),
        ("val_17", "node"),
        ("42", "node"),
        ("weight", "node"),
        (".weight", "node"),
    ],
)
def test_a_layer_is_called_after_its_weight_where_that_has_a_name(
    tmp_path: Path, weight: str, name: str
) -> None:
    net = Net()
    net.node("MatMul", net.input("x", "n", 4), net.weight(weight, 4, 4), name="node", to="y")
    assert names(load(tmp_path, net, "y")) == [name]


@pytest.mark.parametrize(
    ("noted", "name"),
    [
        ("['', 'encoder', 'encoder.layer.0', 'linear_3']", "encoder.layer.0"),
        ("['', 'fc', 'linear']", "fc"),
        ("['', 'linear']", "node"),
        ("[]", "node"),
        ("not a list", "node"),
        ("", "node"),
    ],
)
def test_else_after_the_scope_that_the_exporter_noted(
    tmp_path: Path, noted: str, name: str
) -> None:
    net = Net()
    net.node("MatMul", net.input("x", "n", 4), net.weight("val_3", 4, 4), name="node", to="y")
    net.nodes[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=noted)
    assert names(load(tmp_path, net, "y")) == [name]


def test_nodes_without_a_name_get_one(tmp_path: Path) -> None:
    net = Net()
    hidden = net.node("MatMul", net.input("x", "n", 4), net.weight("0", 4, 4), name="", to="h")
    net.node("MatMul", hidden, net.weight("1", 4, 4), name="", to="y")
    found = names(load(tmp_path, net, "y"))
    assert len(set(found)) == 2
    assert all(found)


def test_nodes_with_the_same_name_are_told_apart(tmp_path: Path) -> None:
    net = Net()
    hidden = net.node("MatMul", net.input("x", "n", 4), net.weight("0", 4, 4), name="same", to="h")
    net.node("MatMul", hidden, net.weight("1", 4, 4), name="same", to="y")
    graph = load(tmp_path, net, "y")
    assert len({layer.node for layer in graph.layers}) == 2
    assert len(set(names(graph))) == 2


def test_layers_that_share_a_weight_are_numbered(tmp_path: Path) -> None:
    net = Net()
    tied, own = net.weight("tied.weight", 4, 4), net.weight("own.weight", 4, 4)
    hidden = net.node("MatMul", net.input("x", "n", 4), tied, name="a")
    hidden = net.node("MatMul", hidden, own, name="b")
    net.node("MatMul", hidden, tied, name="c", to="y")
    assert names(load(tmp_path, net, "y")) == ["tied#1", "own", "tied#2"]


def skipped(tmp_path: Path, net: Net, output: str) -> dict[str, str]:
    """Skipped operators, beside one layer that intake needs to accept the model."""
    other = net.node("MatMul", net.input("other", "n", 4), net.weight("l", 4, 4), name="layer")
    graph = load(tmp_path, net, output, other)
    assert names(graph) == ["layer"]
    return graph.skipped


def test_a_product_of_two_activations_is_no_layer(tmp_path: Path) -> None:
    net = Net()
    net.node("MatMul", net.input("a", 2, 3), net.input("b", 3, 2), name="scores", to="y")
    assert skipped(tmp_path, net, "y") == {"scores": "its weight is computed at run time"}


def test_a_constant_on_the_left_is_no_weight(tmp_path: Path) -> None:
    net = Net()
    net.node("MatMul", net.weight("w", 4, 3), net.input("x", 3, 2), name="left", to="y")
    told = "its constant is on the left, and the weight of a layer is on the right"
    assert skipped(tmp_path, net, "y") == {"left": told}


def test_a_filter_that_is_computed_is_no_weight(tmp_path: Path) -> None:
    net = Net()
    image = net.constant("image", np.ones((1, 2, 4, 4), np.float32))
    net.node("Conv", image, net.input("filters", 3, 2, 1, 1), name="conv", to="y")
    assert skipped(tmp_path, net, "y") == {"conv": "its weight is computed at run time"}


def test_a_stack_of_matrices_is_no_layer(tmp_path: Path) -> None:
    net = Net()
    net.node("MatMul", net.input("x", 2, 5, 3), net.weight("w", 2, 3, 4), name="stack", to="y")
    assert skipped(tmp_path, net, "y") == {"stack": "its weight has 3 dimensions, not 2"}


def test_a_weight_of_double_precision_is_no_layer(tmp_path: Path) -> None:
    net = Net()
    cast = net.node("Cast", net.input("x", "n", 3), name="up", to="wide_in")
    net.nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.DOUBLE))
    wide = net.node("MatMul", cast, net.constant("w", np.ones((3, 2))), name="wide")
    down = net.node("Cast", wide, name="down")
    net.nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    assert skipped(tmp_path, net, down) == {"wide": "its weight is double, not float32"}


def test_a_transposed_input_is_no_layer(tmp_path: Path) -> None:
    net = Net()
    net.node("Gemm", net.input("x", 3, 5), net.weight("w", 3, 2), name="g", to="y", transA=1)
    assert skipped(tmp_path, net, "y") == {"g": "it reads its activations transposed"}


def test_a_bias_that_is_no_constant_vector_is_no_layer(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "n", 3)
    net.node("Gemm", x, net.weight("w", 3, 2), net.weight("b", 1, 2), name="g", to="y")
    assert skipped(tmp_path, net, "y") == {"g": "its bias is no constant vector"}


def test_an_empty_weight_is_no_layer(tmp_path: Path) -> None:
    net = Net()
    empty = net.constant("w", np.zeros((3, 0), np.float32))
    net.node("MatMul", net.input("x", "n", 3), empty, name="none", to="y")
    assert skipped(tmp_path, net, "y") == {"none": "its weight is empty"}


def test_operators_of_other_domains_are_not_taken_for_ours(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "n", 4)
    hidden = net.node("MatMul", x, net.weight("fc.weight", 4, 4), name="fc")
    node = helper.make_node("MatMul", [hidden, "fc.weight"], ["z"], "f", domain="com.microsoft")
    model = net.model(hidden)
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    assert names(load_model(path)) == ["fc"]


CONV = Layer("c", "c", "Conv", "x", "y", "w", (4, 2, 3, 5), None, groups=3)
GEMM = Layer("g", "g", "Gemm", "x", "y", "w", (6, 4), None)
TRANSPOSED = Layer("g", "g", "Gemm", "x", "y", "w", (4, 6), None, transposed=True)
MATMUL = Layer("m", "m", "MatMul", "x", "y", "w", (6, 4), None)


@pytest.mark.parametrize("layer", [CONV, GEMM, TRANSPOSED, MATMUL])
def test_the_matrix_is_output_channels_by_reduction_and_back(layer: Layer) -> None:
    stored = np.arange(layer.parameters, dtype=np.float32).reshape(layer.weight_shape)
    matrix = layer.to_matrix(stored)
    assert matrix.shape == (layer.output_channels, layer.reduction)
    assert matrix.flags.c_contiguous
    np.testing.assert_array_equal(layer.from_matrix(matrix), stored)
    assert layer.from_matrix(matrix).flags.c_contiguous


def test_the_columns_of_a_convolution_are_kh_kw_cin() -> None:
    stored = np.zeros(CONV.weight_shape, np.float32)
    stored[3, 1, 2, 4] = 1  # output channel 3, input channel 1, at row 2 and column 4
    matrix = CONV.to_matrix(stored)
    assert np.argwhere(matrix).tolist() == [[3, (2 * 5 + 4) * 2 + 1]]


def test_the_columns_of_a_product_are_its_inputs() -> None:
    stored = np.zeros((6, 4), np.float32)
    stored[5, 2] = 1  # input 5, output channel 2
    for layer, weight in ((GEMM, stored), (MATMUL, stored), (TRANSPOSED, stored.T)):
        assert np.argwhere(layer.to_matrix(weight)).tolist() == [[2, 5]]


@pytest.mark.parametrize(
    ("layer", "outputs", "reduction", "inputs", "axis"),
    [(CONV, 4, 30, 6, 0), (GEMM, 4, 6, 6, 1), (TRANSPOSED, 4, 6, 6, 0), (MATMUL, 4, 6, 6, 1)],
)
def test_sizes(layer: Layer, outputs: int, reduction: int, inputs: int, axis: int) -> None:
    assert layer.output_channels == outputs
    assert layer.reduction == reduction
    assert layer.input_channels == inputs
    assert layer.output_axis == axis


def test_depthwise_is_one_input_channel_per_group() -> None:
    assert Layer("d", "d", "Conv", "x", "y", "w", (8, 1, 3, 3), None, groups=8).is_depthwise
    assert not CONV.is_depthwise
    assert not Layer("d", "d", "Conv", "x", "y", "w", (8, 1, 3, 3), None).is_depthwise


def test_weights_and_biases_are_the_stored_values(classifier_graph: ModelGraph) -> None:
    layer = classifier_graph.layer("fc1")
    assert classifier_graph.weight(layer).shape == (8, 6)
    assert classifier_graph.weight(layer).dtype == np.float32
    bias = classifier_graph.bias(layer)
    assert bias is not None
    assert bias.shape == (8,)


def test_a_layer_without_a_bias_has_none(tmp_path: Path) -> None:
    net = Net()
    net.node("MatMul", net.input("x", "n", 4), net.weight("fc.weight", 4, 4), name="a", to="y")
    graph = load(tmp_path, net, "y")
    assert graph.bias(graph.layers[0]) is None
