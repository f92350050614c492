"""Channels that only layers read may be scaled and reordered: the model computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from autosparse.model_graph import ModelGraph, load_model
from autosparse.model_graph.channel_pairs import (
    ChannelChange,
    changed,
    channel_pairs,
    making_rows,
    reading_rows,
)
from autosparse.model_graph.torch_executor import GraphModule
from tests.models import Floats, Net, block_with_norm, classifier, images, residual_cnn


def answer(graph: ModelGraph, inputs: Mapping[str, Floats]) -> Floats:
    with torch.no_grad():
        outputs = GraphModule.from_graph(graph)(
            {name: torch.tensor(array) for name, array in inputs.items()}
        )
    return np.asarray(next(iter(outputs.values())).numpy())


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelGraph]:
    directory = tmp_path_factory.mktemp("nets")
    return {
        "residual": load_model(residual_cnn().save(directory / "cnn.onnx", "logits")),
        "classifier": load_model(classifier().save(directory / "mlp.onnx", "logits")),
        "block": load_model(block_with_norm().save(directory / "block.onnx", "y")),
    }


@pytest.mark.parametrize(
    ("net", "found"),
    [
        ("residual", [("block1.a", True, ("block1.b",)), ("block2.a", True, ("block2.b",))]),
        ("classifier", [("fc1", True, ("fc2",))]),
        ("block", [("norm", True, ("q", "up")), ("up", False, ("down",))]),
    ],
)
def test_pairs_are_where_only_layers_read(
    graphs: dict[str, ModelGraph], net: str, found: list[tuple[str, bool, tuple[str, ...]]]
) -> None:
    pairs = channel_pairs(graphs[net])
    assert [(p.name, p.scalable, tuple(r.name for r in p.readers)) for p in pairs] == found


@pytest.mark.parametrize("net", ["residual", "classifier", "block"])
def test_a_changed_model_computes_the_same(graphs: dict[str, ModelGraph], net: str) -> None:
    graph, draw = graphs[net], np.random.default_rng(0)
    changes = {}
    for pair in channel_pairs(graph):
        scale = np.ones(pair.channels, np.float32)
        if pair.scalable:
            scale = np.exp(draw.standard_normal(pair.channels)).astype(np.float32)
        order = np.arange(pair.channels) if pair.is_norm else draw.permutation(pair.channels)
        changes[pair.name] = ChannelChange(pair, scale, order)
    other = changed(graph, changes)
    inputs = {
        "residual": {"image": images(4)},
        "classifier": {"x": draw.standard_normal((4, 6)).astype(np.float32)},
        "block": {"x": draw.standard_normal((4, 5, 8)).astype(np.float32)},
    }[net]
    before, after = answer(graph, inputs), answer(other, inputs)
    assert np.allclose(before, after, rtol=1e-4, atol=1e-5)
    for pair in channel_pairs(graph):
        assert not np.allclose(making_rows(graph, pair), making_rows(other, pair))
        for old, new in zip(reading_rows(graph, pair), reading_rows(other, pair), strict=True):
            assert not np.allclose(old, new)


def test_what_something_else_needs_stays(tmp_path: Path) -> None:
    """A graph output, a sum of two branches, a softmax over channels, a shared weight."""
    net = Net()
    x = net.input("x", "batch", 8)
    shared = net.weight("shared", 8, 8)
    first = net.node("MatMul", x, net.weight("a.weight", 8, 8), name="a")
    second = net.node("MatMul", net.node("Softmax", first, name="soft"), shared, name="b")
    third = net.node("MatMul", second, shared, name="c")
    added = net.node("Add", third, x, name="join")
    last = net.node("MatMul", added, net.weight("d.weight", 8, 8), name="d", to="y")
    net.node("MatMul", last, net.weight("e.weight", 8, 8), name="e", to="z")
    graph = load_model(net.save(tmp_path / "net.onnx", "y", "z"))
    assert channel_pairs(graph) == ()
