"""Intake: a normalized graph from a valid file, one sentence from anything else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from autosparse.errors import ModelError
from autosparse.model_graph import ModelGraph, load_model
from tests.models import Floats, Net, classifier, images, residual_cnn

Save = Callable[[onnx.ModelProto | bytes], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a model, or bytes that claim to be one."""

    def write(content: onnx.ModelProto | bytes) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return path

    return write


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    return caught.value


def run(model: onnx.ModelProto, **inputs: Floats) -> Floats:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def normalized(graph: ModelGraph) -> onnx.ModelProto:
    return ir.to_proto(graph.model)


def test_a_valid_model_is_described(residual_model: Path) -> None:
    graph = load_model(residual_model)
    assert [str(spec) for spec in graph.inputs] == ["image: float32 (batch, 3, 8, 8)"]
    assert [str(spec) for spec in graph.outputs] == ["logits: float32 (batch, 10)"]
    assert graph.sha256 == hashlib.sha256(residual_model.read_bytes()).hexdigest()
    assert graph.skipped == {}
    assert len(graph.layers) == 7


def test_normalizing_changes_no_answer(residual_model: Path) -> None:
    image = images(4)
    before = run(onnx.load(str(residual_model)), image=image)
    after = run(normalized(load_model(residual_model)), image=image)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_intake_leaves_the_file_alone(residual_model: Path) -> None:
    before = residual_model.read_bytes(), sorted(os.listdir(residual_model.parent))
    load_model(residual_model)
    assert (residual_model.read_bytes(), sorted(os.listdir(residual_model.parent))) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no ONNX graph"),
        (b"just some text\n", "not an ONNX file"),
        (b'{"irVersion": "9"}', "not an ONNX file"),
        (b"\x80\x04\x95\x0b\x00\x00\x00", "not an ONNX file"),
        (b"\x00" * 64, "not an ONNX file"),
        (b"\xff" * 64, "not an ONNX file"),
    ],
    ids=["empty", "text", "json", "pickle", "zeros", "ones"],
)
def test_what_is_no_onnx_file_is_told(save: Save, content: bytes, message: str) -> None:
    assert message in refusal(save(content)).message


@pytest.mark.parametrize("suffix", [".json", ".onnxtxt", ".textproto", ".bin", ""])
def test_the_content_counts_and_not_the_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"just some text\n")
    assert "not an ONNX file" in refusal(path).message
    path.write_bytes(classifier().model("logits").SerializeToString())
    assert len(load_model(path).layers) == 2


def test_a_file_that_ends_early_is_told(save: Save) -> None:
    whole = classifier().model("logits").SerializeToString()
    for end in [1, 2, 5, 10, 50, len(whole) // 2, len(whole) - 100, len(whole) - 1]:
        refusal(save(whole[:end]))


def test_missing_files_and_directories_are_told(tmp_path: Path) -> None:
    assert "there is no model file" in refusal(tmp_path / "gone.onnx").message
    assert "there is no model file" in refusal(tmp_path).message


def test_a_relative_path_from_another_directory_is_told_to_be_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"looked up from {tmp_path}" in refusal(Path("gone.onnx")).hint


def test_a_model_without_a_compressible_layer_is_told(save: Save) -> None:
    net = Net()
    net.node("Relu", net.input("x", "batch", 4), to="y")
    error = refusal(save(net.model("y")))
    assert "no compressible layer" in error.message
    assert "Conv, Gemm or MatMul" in error.hint


@pytest.mark.parametrize("opset", [7, 12, 99])
def test_an_opset_out_of_range_is_told_with_the_range(save: Save, opset: int) -> None:
    model = classifier().model("logits")
    model.opset_import[0].version = opset
    error = refusal(save(model))
    assert f"uses opset {opset}, supported are 13 to" in error.message


def test_a_model_without_an_opset_is_told(save: Save) -> None:
    model = classifier().model("logits")
    del model.opset_import[:]
    assert "uses opset 0" in refusal(save(model)).message


@pytest.mark.parametrize("opset", [13, 17, 21, 23])
def test_every_supported_opset_is_read(tmp_path: Path, opset: int) -> None:
    net = Net(opset=opset)
    net.conv(net.input("x", "batch", 3, 8, 8), "conv", 3, 4)
    assert [la.name for la in load_model(net.save(tmp_path / "m.onnx", "conv_out")).layers] == [
        "conv"
    ]


def test_operators_of_other_domains_are_named(save: Save) -> None:
    model = classifier().model("logits")
    node = helper.make_node("Magic", ["logits"], ["more"], "magic", domain="com.example")
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    error = refusal(save(model))
    assert "'magic' uses the operator com.example::Magic" in error.message


def test_an_unknown_operator_is_told(save: Save) -> None:
    model = classifier().model("logits")
    model.graph.node[1].op_type = "Reloo"
    assert "Reloo" in refusal(save(model)).message


def test_a_cycle_is_told(save: Save) -> None:
    model = classifier().model("logits")
    model.graph.node[0].input[0] = "relu_out"
    assert "sorted" in refusal(save(model)).message


def test_a_tensor_that_nobody_writes_is_told(save: Save) -> None:
    model = classifier().model("logits")
    model.graph.node[1].input[0] = "nowhere"
    assert "nowhere" in refusal(save(model)).message


def test_shapes_that_do_not_fit_are_told(save: Save) -> None:
    model = classifier().model("logits")
    model.graph.initializer[0].dims[:] = [6, 8]
    assert "not a valid ONNX model" in refusal(save(model)).message


@pytest.mark.parametrize("missing", [1, 3, 4, 100])
def test_a_weight_with_fewer_bytes_than_its_shape_needs_is_told(save: Save, missing: int) -> None:
    model = classifier().model("logits")
    weight = model.graph.initializer[0]
    weight.raw_data = weight.raw_data[:-missing]
    refusal(save(model))


def test_names_that_are_no_text_are_told(save: Save) -> None:
    whole = classifier().model("logits").SerializeToString()
    refusal(save(whole.replace(b"batch", b"bat\xffh")))
    refusal(save(whole.replace(b"relu_out", b"relu\xff\xfeut")))


def test_an_input_without_a_shape_is_told(save: Save) -> None:
    model = classifier().model("logits")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert "'shape'" in refusal(save(model)).message


def test_an_initializer_that_is_listed_as_an_input_is_a_constant(save: Save) -> None:
    """Exporters of old opsets list them: they are no inputs that a user must give."""
    model = classifier().model("logits")
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        )
    graph = load_model(save(model))
    assert [spec.name for spec in graph.inputs] == ["x"]
    assert [layer.name for layer in graph.layers] == ["fc1", "fc2"]


def test_a_batch_norm_is_folded_into_its_convolution(tmp_path: Path) -> None:
    net = Net(3)
    conv = net.conv(net.input("x", "batch", 3, 8, 8), "conv", 3, 4, bias=False)
    parameters = [net.weight(f"norm.{name}", 4) for name in ("scale", "shift", "mean")]
    variance = net.constant("norm.variance", np.array([0.5, 1, 2, 4], np.float32))
    net.node("BatchNormalization", conv, *parameters, variance, name="norm", to="y")
    path = net.save(tmp_path / "m.onnx", "y")
    graph = load_model(path)
    assert [node.op_type for node in graph.model.graph] == ["Conv"]
    assert [layer.name for layer in graph.layers] == ["conv"]
    x = images(2)
    np.testing.assert_allclose(
        run(normalized(graph), x=x), run(onnx.load(str(path)), x=x), rtol=1e-4, atol=1e-5
    )


def reshaped(net: Net) -> str:
    return net.node("Reshape", net.weight("w", 24), net.constant("matrix", np.array([6, 4])))


def cast(net: Net, dtype: type[np.floating[Any]], *shape: int) -> str:
    stored = net.constant("w", net.rng.standard_normal(shape).astype(dtype))
    output = net.node("Cast", stored)
    net.nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    return output


def all_three(net: Net) -> str:
    shape = net.constant("matrix", np.array([4, 6]))
    flat = net.node("Reshape", cast(net, np.float16, 2, 12), shape)
    return net.node("Transpose", flat, perm=[1, 0])


@pytest.mark.parametrize(
    "behind",
    [
        lambda net: net.node("Transpose", net.weight("w", 4, 6), perm=[1, 0]),
        reshaped,
        lambda net: cast(net, np.float16, 6, 4),
        lambda net: cast(net, np.float64, 6, 4),
        all_three,
    ],
    ids=["transpose", "reshape", "half", "double", "all three"],
)
def test_a_weight_behind_constant_operators_is_one_constant(
    tmp_path: Path, behind: Callable[[Net], str]
) -> None:
    net = Net()
    net.node("MatMul", net.input("x", "batch", 6), behind(net), name="fc", to="y")
    path = net.save(tmp_path / "m.onnx", "y")
    graph = load_model(path)
    assert [(layer.name, layer.weight_shape) for layer in graph.layers] == [("fc", (6, 4))]
    assert graph.skipped == {}
    assert [node.op_type for node in graph.model.graph] == ["MatMul"]
    values = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    np.testing.assert_allclose(
        run(normalized(graph), x=values), run(onnx.load(str(path)), x=values), rtol=1e-5
    )


@pytest.mark.parametrize("bias_first", [True, False])
def test_a_product_of_matrices_and_its_bias_are_one_layer(tmp_path: Path, bias_first: bool) -> None:
    net = Net(4)
    x = net.input("x", "batch", 6)
    product = net.node("MatMul", x, net.weight("fc.weight", 6, 4), name="fc")
    bias = net.weight("fc.bias", 4)
    net.node("Add", *((bias, product) if bias_first else (product, bias)), name="add", to="y")
    path = net.save(tmp_path / "m.onnx", "y")
    graph = load_model(path)
    assert [(la.name, la.operator, la.bias) for la in graph.layers] == [("fc", "Gemm", "fc.bias")]
    values = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    np.testing.assert_allclose(
        run(normalized(graph), x=values), run(onnx.load(str(path)), x=values), rtol=1e-5
    )


@pytest.mark.parametrize("why", ["three axes", "scalar", "read twice", "output", "no constant"])
def test_other_additions_stay_what_they_are(tmp_path: Path, why: str) -> None:
    net = Net(4)
    shape = ("batch", 5, 6) if why == "three axes" else ("batch", 6)
    x = net.input("x", *shape)
    product = net.node("MatMul", x, net.weight("fc.weight", 6, 6), name="fc")
    other = net.weight("c", *(() if why == "scalar" else (6,)))
    added = net.node("Add", product, x if why == "no constant" else other, name="add")
    outputs = [added, product] if why == "output" else [added]
    if why == "read twice":
        outputs = [net.node("Mul", added, product, name="mul")]
    graph = load_model(net.save(tmp_path / "m.onnx", *outputs))
    assert [layer.operator for layer in graph.layers] == ["MatMul"]
    assert "Add" in [node.op_type for node in graph.model.graph]


def test_what_exporters_note_is_stripped_and_what_users_note_is_kept(save: Save) -> None:
    model = classifier().model("logits")
    helper.set_model_props(model, {"names": "cat, dog"})
    model.graph.doc_string = "/home/someone/secret/path"
    for node in model.graph.node:
        node.doc_string = "File /home/someone/secret/path.py, line 3"
        entry = node.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/someone/secret/path.py"
    after = normalized(load_model(save(model))).SerializeToString()
    assert b"secret" not in after
    assert b"cat, dog" in after


def test_free_dimensions_keep_their_names(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "rows", "length", 6)
    net.node("MatMul", x, net.weight("fc.weight", 6, 4), name="fc", to="y")
    graph = load_model(net.save(tmp_path / "m.onnx", "y"))
    assert graph.inputs[0].shape == ("rows", "length", 6)
    assert graph.outputs[0].shape == ("rows", "length", 4)


def test_functions_of_the_model_itself_are_inlined(save: Save) -> None:
    double = helper.make_function(
        "local", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model = classifier().model("logits")
    model.graph.node[1].op_type, model.graph.node[1].domain = "Double", "local"
    model.functions.append(double)
    model.opset_import.append(helper.make_opsetid("local", 1))
    graph = load_model(save(model))
    assert {node.op_type for node in graph.model.graph} == {"Gemm", "Add"}


def test_the_graph_can_be_copied_and_changed_without_a_trace(residual_model: Path) -> None:
    graph = load_model(residual_model)
    before = normalized(graph).SerializeToString()
    copy = graph.copy_model()
    for node in list(copy.graph):
        node.name = f"other_{node.name}"
    copy.graph.outputs[0].name = "other"
    assert normalized(graph).SerializeToString() == before


def test_residual_models_of_any_seed_are_read_alike(tmp_path: Path) -> None:
    names = {
        tuple(la.name for la in load_model(residual_cnn(s).save(tmp_path / "m", "logits")).layers)
        for s in range(3)
    }
    assert len(names) == 1


def test_functions_that_explode_when_inlined_are_refused_at_once(tmp_path: Path) -> None:
    functions = []
    for depth in range(30):
        inner = ("f", f"level{depth - 1}") if depth else ("", "Relu")
        nodes = [
            onnx.helper.make_node(inner[1], ["x"], ["y"], domain=inner[0]),
            onnx.helper.make_node(inner[1], ["y"], ["z"], domain=inner[0]),
        ]
        opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("f", 1)]
        functions.append(
            onnx.helper.make_function("f", f"level{depth}", ["x"], ["z"], nodes, opsets)
        )
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("level29", ["a"], ["b"], domain="f")],
        "bomb",
        [value("a", onnx.TensorProto.FLOAT, [1])],
        [value("b", onnx.TensorProto.FLOAT, [1])],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("f", 1)]
    path = tmp_path / "bomb.onnx"
    onnx.save(onnx.helper.make_model(graph, functions=functions, opset_imports=opsets), str(path))
    with pytest.raises(ModelError, match="grow to more than"):
        load_model(path)
