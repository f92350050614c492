"""Damaged models: whatever the bytes, intake answers with a graph or one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from autosparse.errors import ModelError
from autosparse.model_graph import intake, load_model
from tests.models import Net, classifier, residual_cnn

_MUTATIONS = 100


def _folded() -> onnx.ModelProto:
    """Food for the optimizer: a batch norm, constants, shape arithmetic, a branch."""
    net = Net()
    conv = net.conv(net.input("image", "batch", 3, 8, 8), "conv", 3, 4, bias=False)
    norm = [net.constant(f"norm.{n}", np.ones(4, np.float32)) for n in ("s", "b", "m", "v")]
    limits = [net.constant(name, np.float32(value)) for name, value in (("lo", 0), ("hi", 6))]
    clipped = net.node("Clip", net.node("BatchNormalization", conv, *norm, name="n"), *limits)
    first = net.node("Gather", net.node("Shape", clipped), net.constant("zero", np.int64(0)))
    rows = net.node("Unsqueeze", first, net.constant("axis", np.array([0], np.int64)))
    shape = net.node("Concat", rows, net.constant("rest", np.array([-1], np.int64)), axis=0)
    weight = net.node("Transpose", net.weight("fc.weight", 5, 256), perm=[1, 0])
    ones = net.node("Constant", value=numpy_helper.from_array(np.ones(5, np.float32)))
    shift = net.node("Expand", ones, net.constant("size", np.array([5], np.int64)))
    product = net.node("MatMul", net.node("Reshape", clipped, shape), weight, name="fc")
    added = net.node("Add", product, shift)
    branches: dict[str, Any] = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, [added], [name])], name, [],
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "Identity"), ("else", "Relu"))
    }  # fmt: skip
    net.node("If", net.constant("yes", np.bool_(True)), to="y", **branches)
    return net.model("y")


def _truncate(draw: random.Random, content: bytearray) -> None:
    del content[draw.randrange(len(content)) :]


def _flip_bit(draw: random.Random, content: bytearray) -> None:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _overwrite(draw: random.Random, content: bytearray) -> None:
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(len(content))] = draw.randrange(256)


def _cut_out(draw: random.Random, content: bytearray) -> None:
    start = draw.randrange(len(content))
    del content[start : start + draw.randint(1, 20)]


def _misspell(draw: random.Random, content: bytearray) -> None:
    """Names and shapes, rather than the values of weights."""
    readable = [index for index, byte in enumerate(content) if 32 <= byte < 127]
    content[draw.choice(readable)] = draw.randrange(256)


MODELS = {
    "classifier": classifier().model("logits"),
    "residual": residual_cnn().model("logits"),
    "folded": _folded(),
}


def complaint(path: Path) -> str:
    """What is wrong with the file; empty where it is accepted, and then it can be used."""
    try:
        graph = load_model(path)
    except ModelError as error:
        return str(error)
    for layer in graph.layers:
        assert graph.weight(layer).shape == layer.weight_shape
        graph.bias(layer)
    return ""


def test_the_undamaged_models_are_read(tmp_path: Path) -> None:
    found = {}
    for name, model in MODELS.items():
        onnx.save(model, str(tmp_path / "model.onnx"))
        found[name] = len(load_model(tmp_path / "model.onnx").layers)
    assert found == {"classifier": 2, "residual": 7, "folded": 2}


@pytest.mark.parametrize("damage", [_truncate, _flip_bit, _overwrite, _cut_out, _misspell])
def test_damage_is_told_in_one_line_or_does_no_harm(
    tmp_path: Path, damage: Callable[[random.Random, bytearray], None]
) -> None:
    path = tmp_path / "model.onnx"
    whole = {name: model.SerializeToString() for name, model in MODELS.items()}
    refused = 0
    for seed in range(_MUTATIONS):
        draw = random.Random(seed)
        content = bytearray(whole[draw.choice(list(whole))])
        damage(draw, content)
        path.write_bytes(content)
        told = complaint(path)
        assert "\n" not in told, f"seed {seed}"
        refused += bool(told)
    assert refused > _MUTATIONS // 10


def test_damaged_external_data_entries_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        classifier().model("logits"), str(path), save_as_external_data=True,
        location="weights.data", size_threshold=0,
    )  # fmt: skip
    whole = path.read_bytes()
    refused = 0
    for seed in range(_MUTATIONS):
        content = bytearray(whole)
        _misspell(random.Random(seed), content)
        path.write_bytes(content)
        told = complaint(path)
        assert "\n" not in told, f"seed {seed}"
        refused += bool(told)
    assert refused > _MUTATIONS // 4


@pytest.mark.parametrize("place", ["graph", "branch", "function"])
def test_too_many_nodes_are_refused_wherever_they_are(
    classifier_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Before anything works through them: what reads a graph would take minutes for millions."""
    monkeypatch.setattr(intake, "_MOST_NODES", 3)
    assert len(load_model(classifier_model).layers) == 2, "it has three"
    model = onnx.load(classifier_model)
    more = [helper.make_node("Relu", ["a"], ["b"]) for _ in range(3)]
    if place == "graph":
        model.graph.node.extend(more)
    elif place == "branch":
        branch = helper.make_graph(more, "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch))
    else:
        opsets = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("own", "f", ["a"], ["b"], more, opsets))
    path = tmp_path / "many.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="more than 3 nodes"):
        load_model(path)
