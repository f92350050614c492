"""A model graph in another process is the same graph."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx_ir as ir

from autosparse.model_graph import ModelGraph, load_model
from autosparse.model_graph.travel import take_apart
from tests.models import residual_cnn


def test_what_arrives_is_what_was_sent(tmp_path: Path) -> None:
    graph = load_model(residual_cnn().save(tmp_path / "residual.onnx", "logits"))
    before = ir.to_proto(graph.model).SerializeToString()
    arrived: ModelGraph = pickle.loads(pickle.dumps(graph))
    assert ir.to_proto(graph.model).SerializeToString() == before
    assert ir.to_proto(arrived.model) == ir.to_proto(graph.model)
    assert (arrived.sha256, arrived.layers, arrived.inputs, arrived.outputs) == (
        graph.sha256, graph.layers, graph.inputs, graph.outputs,
    )  # fmt: skip
    for layer in graph.layers:
        np.testing.assert_array_equal(arrived.weight(layer), graph.weight(layer))


def test_weights_go_beside_the_structure(tmp_path: Path) -> None:
    """So that they can be shared: 2 GiB are all that a protobuf holds."""
    graph = load_model(residual_cnn().save(tmp_path / "residual.onnx", "logits"))
    parts = take_apart(graph.model)
    large = {la.weight for la in graph.layers if la.parameters > 256}
    assert large
    assert large <= set(parts.weights)
    assert len(parts.structure) < len(ir.to_proto(graph.model).SerializeToString()) / 2


def test_a_graph_that_arrived_can_be_changed_and_sent_on(tmp_path: Path) -> None:
    graph = load_model(residual_cnn().save(tmp_path / "residual.onnx", "logits"))
    arrived: ModelGraph = pickle.loads(pickle.dumps(graph))
    arrived.copy_model().graph.name = "changed"
    again: ModelGraph = pickle.loads(pickle.dumps(arrived))
    assert ir.to_proto(again.model) == ir.to_proto(graph.model)
