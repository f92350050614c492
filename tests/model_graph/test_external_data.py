"""External data: complete, and beside the model; a model file reads nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

from autosparse.errors import ModelError
from autosparse.model_graph import load_model
from autosparse.model_graph.external_data import copy_model
from tests.models import Net, classifier


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose weights lie in `weights.data` beside it."""
    path = tmp_path / "here" / "model.onnx"
    path.parent.mkdir()
    onnx.save(
        classifier().model("logits"), str(path), save_as_external_data=True,
        location="weights.data", size_threshold=0,
    )  # fmt: skip
    return path


def point(path: Path, **fields: str | None) -> None:
    """Change where every tensor's data are said to be; None leaves a field out."""
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        kept = {key: value for key, value in {**entries, **fields}.items() if value is not None}
        del tensor.external_data[:]
        for key, value in kept.items():
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_weights_come_from_the_file_beside_the_model(model: Path, classifier_model: Path) -> None:
    graph, embedded = load_model(model), load_model(classifier_model)
    for mine, theirs in zip(graph.layers, embedded.layers, strict=True):
        np.testing.assert_array_equal(graph.weight(mine), embedded.weight(theirs))


def test_what_is_made_from_a_model_needs_no_data_beside_it(model: Path) -> None:
    """Probes of the runtime are made in memory, candidates are written elsewhere."""
    graph = load_model(model)
    (model.parent / "weights.data").unlink()
    alone = ir.to_proto(graph.copy_model()).SerializeToString()
    session = onnxruntime.InferenceSession(alone, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"x": np.zeros((2, 6), np.float32)})
    assert logits.shape == (2, 4)


def test_a_copy_brings_its_data_along(model: Path, tmp_path: Path) -> None:
    (model.parent / "inner").mkdir()
    (model.parent / "weights.data").rename(model.parent / "inner" / "weights.data")
    point(model, location="inner/weights.data")
    copy = tmp_path / "there" / "copy.onnx"
    copy.parent.mkdir()
    copy_model(model, copy)
    assert copy.read_bytes() == model.read_bytes()
    assert load_model(copy).sha256 == load_model(model).sha256


def test_a_copy_does_not_replace_itself_by_its_data(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "weights.data"
    with pytest.raises(ModelError, match="like the model that is delivered"):
        copy_model(model, copy)


def test_the_digest_is_of_the_model_and_its_data(model: Path) -> None:
    before = load_model(model).sha256
    assert load_model(model).sha256 == before
    data = model.parent / "weights.data"
    content = bytearray(data.read_bytes())
    content[2] ^= 1
    data.write_bytes(content)
    assert load_model(model).sha256 != before


def test_data_may_lie_in_a_folder_below(model: Path) -> None:
    (model.parent / "below").mkdir()
    (model.parent / "weights.data").rename(model.parent / "below" / "weights.data")
    point(model, location="below/weights.data")
    assert len(load_model(model).layers) == 2


def test_a_relative_path_is_relative_to_the_model(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    assert len(load_model(Path("model.onnx")).layers) == 2
    monkeypatch.chdir(model.parent.parent)
    assert len(load_model(Path("here/model.onnx")).layers) == 2


def test_missing_data_are_named(model: Path) -> None:
    (model.parent / "weights.data").unlink()
    assert refusal(model) == (
        "the external data file 'weights.data' of tensor 'fc1.weight' is missing"
    )


@pytest.mark.parametrize("kept", [0, 1, 191, 300])
def test_truncated_data_are_told_with_both_sizes(model: Path, kept: int) -> None:
    data = model.parent / "weights.data"
    data.write_bytes(data.read_bytes()[:kept])
    message = refusal(model)
    assert "'weights.data' is truncated" in message
    assert f"the file has {kept}" in message


def test_truncated_data_without_a_length_are_told(model: Path) -> None:
    point(model, length=None)
    assert len(load_model(model).layers) == 2
    data = model.parent / "weights.data"
    data.write_bytes(data.read_bytes()[:-1])
    refusal(model)


@pytest.mark.parametrize(
    "location",
    [
        "../outside.data",
        "../here/../outside.data",
        "below/../../outside.data",
        "/etc/hostname",
        "",
        None,
        ".",
        "/",
        "..",
        "a\0b",
        "a" * 5000,
        "weights.data/",
        "~/weights.data",
    ],
)
def test_nothing_outside_the_models_directory_is_read(model: Path, location: str | None) -> None:
    (model.parent.parent / "outside.data").write_bytes(bytes(10_000))
    point(model, location=location, offset="0", length="4")
    refusal(model)


def test_an_absolute_path_is_refused_even_to_the_right_file(model: Path) -> None:
    point(model, location=str(model.parent / "weights.data"))
    refusal(model)


@pytest.mark.parametrize("link", ["symbolic", "symbolic folder", "hard"])
def test_a_link_out_of_the_directory_is_refused(model: Path, link: str) -> None:
    inside, outside = model.parent / "weights.data", model.parent.parent / "outside"
    outside.mkdir()
    target = outside / "weights.data"
    inside.rename(target)
    if link == "symbolic":
        inside.symlink_to(target)
    elif link == "hard":
        os.link(target, inside)
    else:
        (model.parent / "linked").symlink_to(outside)
        point(model, location="linked/weights.data")
    refusal(model)


def test_a_model_that_is_itself_a_link_is_read(model: Path) -> None:
    """Stores of models keep names as links; without external data there is nothing to fear."""
    link = model.parent.parent / "link.onnx"
    onnx.save(classifier().model("logits"), str(model))
    link.symlink_to(model)
    assert len(load_model(link).layers) == 2


@pytest.mark.parametrize("field", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "1.5", "x", "²", "9" * 5000, " 1", "0x10", "\udcff"])
def test_impossible_numbers_are_refused(model: Path, field: str, value: str) -> None:
    if value == "\udcff":  # no text at all
        point(model, **{field: "QQ"})
        model.write_bytes(model.read_bytes().replace(b"QQ", b"\xff\xfe"))
    else:
        point(model, **{field: value})
    assert f"impossible {field}" in refusal(model)


def outside_tensor(name: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(
        name=name, data_type=onnx.TensorProto.FLOAT, dims=[1],
        data_location=onnx.TensorProto.EXTERNAL,
    )  # fmt: skip
    for key, value in (("location", "../outside.data"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("place", ["constant", "branch", "empty branch", "function"])
def test_tensors_in_every_corner_are_checked(tmp_path: Path, place: str) -> None:
    (tmp_path / "outside.data").write_bytes(bytes(100))
    (tmp_path / "in").mkdir()
    net = Net()
    x = net.input("x", "batch", 6)
    net.node("Gemm", x, net.weight("fc.weight", 4, 6), name="fc", to="y", transB=1)
    model = net.model("y")
    constant = helper.make_node("Constant", [], ["c"], value=outside_tensor("t"))
    if place == "constant":
        model.graph.node.append(constant)
    elif place == "function":
        opsets = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("local", "F", [], ["c"], [constant], opsets))
        model.opset_import.append(helper.make_opsetid("local", 1))
    else:
        result = helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [1])
        branch = (
            helper.make_graph([constant], "branch", [], [result])
            if place == "branch"
            else helper.make_graph([], "branch", [], [result], [outside_tensor("c")])
        )
        condition = onnx.numpy_helper.from_array(np.array(True), "condition")
        model.graph.initializer.append(condition)
        model.graph.node.append(
            helper.make_node(
                "If", ["condition"], ["z"], "if", then_branch=branch, else_branch=branch
            )
        )
    path = tmp_path / "in" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert "outside the model's directory: '../outside.data'" in refusal(path)


def test_data_that_may_not_be_read_are_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator may read everything, so the system's refusal is played."""
    real = Path.open

    def refused(path: Path, *given: Any, **more: Any) -> Any:
        if path.name == "weights.data":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *given, **more)

    monkeypatch.setattr(Path, "open", refused)
    message = refusal(model)
    assert message.endswith("weights.data cannot be read: Permission denied")
