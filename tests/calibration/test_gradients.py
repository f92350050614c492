"""Gradients of every layer's weights, against torch's own of the parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autosparse.calibration.gradients import GradientObserver, row_gradients
from autosparse.errors import DataError, ModelError
from autosparse.model_graph import Layer, ModelGraph, load_model
from autosparse.model_graph.torch_executor import GraphModule
from tests.models import class_answering, images, residual_cnn

ROWS = images(8)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    return load_model(residual_cnn().save(path, "logits"))


@pytest.fixture(scope="module")
def observer(graph: ModelGraph) -> GradientObserver:
    names = [layer.name for layer in graph.layers]
    observer = GradientObserver(graph, graph.layers, keep=names, seed=5)
    observer.observe({"image": ROWS})
    return observer


def test_they_add_up_to_the_gradient_of_the_batch(
    graph: ModelGraph, observer: GradientObserver
) -> None:
    module = GraphModule.from_graph(graph)
    logits = module({"image": torch.tensor(ROWS)})["logits"]
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5))
    scale = len(logits) ** 0.5 / logits.detach().norm()
    ((logits * direction).sum() * scale).backward()
    for layer in graph.layers:
        whole = module.layer_weight(layer.name).grad
        assert whole is not None
        rows = observer.row_gradients(layer.name)
        assert rows is not None
        assert rows.shape == (8, layer.output_channels, layer.reduction)
        assert np.allclose(rows.sum(axis=0), layer.to_matrix(whole.numpy()), atol=1e-4)


def test_a_row_has_its_own_gradient(graph: ModelGraph, observer: GradientObserver) -> None:
    others = ROWS.copy()
    others[1:] += 1
    changed = GradientObserver(graph, graph.layers, keep=[graph.layers[0].name], seed=5)
    changed.observe({"image": others})
    first, among = (one.row_gradients(graph.layers[0].name) for one in (changed, observer))
    assert first is not None
    assert among is not None
    # outputs are scaled by their mean size over the batch: the direction is the same, not the size
    cosine = (first[0] * among[0]).sum() / np.linalg.norm(first[0]) / np.linalg.norm(among[0])
    assert cosine == pytest.approx(1, abs=1e-5)


def test_norms_are_the_root_mean_square_over_the_rows(
    graph: ModelGraph, observer: GradientObserver
) -> None:
    for layer in graph.layers:
        rows = observer.row_gradients(layer.name)
        assert rows is not None
        expected = np.sqrt(np.square(rows).mean(axis=0))
        assert np.allclose(observer.gradient_norms(layer.name), expected, rtol=1e-5)


def test_rows_are_kept_only_where_they_are_asked_for(graph: ModelGraph) -> None:
    observer = GradientObserver(graph, graph.layers, keep=[graph.layers[1].name])
    for start in range(0, 8, 4):
        observer.observe({"image": ROWS[start : start + 4]})
    kept = observer.row_gradients(graph.layers[1].name)
    assert kept is not None
    assert len(kept) == 8
    assert observer.row_gradients(graph.layers[0].name) is None


def test_one_position_by_hand() -> None:
    layer = Layer("fc", "n", "Gemm", "x", "y", "w", (2, 3), None, transposed=True)
    inputs = np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.float32)
    slope = np.array([[1, 0], [2, -1]], dtype=np.float32)
    expected = [[[1, 2, 3], [0, 0, 0]], [[8, 10, 12], [-4, -5, -6]]]
    assert row_gradients(layer, 2, inputs, slope).tolist() == expected


def test_a_model_that_answers_with_classes_has_no_gradients(tmp_path: Path) -> None:
    graph = load_model(class_answering(tmp_path / "net.onnx"))
    observer = GradientObserver(graph, graph.layers)
    with pytest.raises(ModelError, match="no output of the model can be differentiated"):
        observer.observe({"x": np.ones((2, 4), np.float32)})


def test_what_is_not_finite_is_named(graph: ModelGraph) -> None:
    observer = GradientObserver(graph, graph.layers)
    with pytest.raises(DataError, match=r"the gradients of layer .* are not finite"):
        observer.observe({"image": np.full_like(ROWS, np.inf)})
