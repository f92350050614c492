"""Changes of layout: where one kind of layer hands a tensor to another kind in one precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.levels import BASELINE, Level
from autosparse.model_graph import load_model
from backends.layouts import layout_changes
from tests.models import residual_cnn

INT8, BLOCKS = Level.parse("dense:int8"), Level.parse("block1x4@0.5:int8")
SPARSE = Level.parse("unstructured@0.9:fp32")


def changes(directory: Path, **given: Level) -> dict[str, int]:
    """For the residual net, its other layers dense fp32; keys spell dots as underscores."""
    graph = load_model(residual_cnn().save(directory / "net.onnx", "logits"))
    levels = {la.name: given.get(la.name.replace(".", "_"), BASELINE) for la in graph.layers}
    return layout_changes(graph.model.graph, {la.node: la for la in graph.layers}, levels)


def test_layers_of_one_kind_change_nothing(tmp_path: Path) -> None:
    assert [name for name in changes(tmp_path) if "pool" not in name] == []


@pytest.mark.parametrize(("first", "second"), [(INT8, BLOCKS), (BLOCKS, INT8), (SPARSE, BASELINE)])
def test_a_sparse_layer_beside_a_dense_one_of_its_precision(
    tmp_path: Path, first: Level, second: Level
) -> None:
    found = changes(tmp_path, block1_a=first, block1_b=second)
    # the tensor between the two, 8 channels of 8 x 8
    assert found["layout:block1.relu_out"] == 8 * 8 * 8


def test_a_change_that_comes_with_a_conversion_is_not_counted_twice(tmp_path: Path) -> None:
    assert "layout:block1.relu_out" not in changes(tmp_path, block1_a=BLOCKS, block1_b=BASELINE)
