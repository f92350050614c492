"""Shapes of the `kernels` benchmark are those of the networks, its files those of the shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from autosparse.model_graph import load_model
from benchmarks.kernel_shapes import (
    FULL,
    GROUPS,
    ODD,
    QUICK,
    ConvShape,
    LayerShape,
    LinearShape,
)
from benchmarks.random_networks import conv_model, linear_model, mobilenet_v1, resnet50

SMALL_CONV = ConvShape(4, 8, 3, 6, stride=2)


def test_the_quick_run_is_a_part_of_the_full_one() -> None:
    for group, shapes in QUICK.groups.items():
        assert set(shapes) <= set(FULL.groups[group])
    assert set(QUICK.linear_rows) <= set(FULL.linear_rows)
    assert QUICK.deadline_seconds < 300
    assert FULL.deadline_seconds < 45 * 60


def test_odd_sizes_fill_no_register_and_have_rows_of_their_own() -> None:
    for shape in GROUPS[ODD]:
        rows = FULL.rows_of(ODD, shape)
        assert isinstance(shape, LinearShape)
        assert shape.outputs % 2
        assert shape.inputs % 16
        assert not [count for count in rows if count % 16 == 0]
    assert GROUPS[ODD][0].input_shape(7) == (7, 387)
    assert FULL.rows_of("square", GROUPS["square"][0]) == FULL.linear_rows
    assert FULL.rows_of("resnet50", GROUPS["resnet50"][0]) == FULL.conv_rows
    assert ODD not in QUICK.groups


def test_names_tell_shapes_apart() -> None:
    for shapes in GROUPS.values():
        assert len({shape.name for shape in shapes}) == len(shapes)


@pytest.mark.parametrize(
    ("shape", "rows", "weights", "operations"),
    [
        (LinearShape(384, 1536), 2, 589_824, 2 * 2 * 589_824),
        (ConvShape(64, 128, 3, 56, 2), 1, 73_728, 2 * 73_728 * 28 * 28),
        (ConvShape(32, 32, 3, 8, groups=32), 1, 288, 2 * 288 * 64),
    ],
)
def test_work_is_counted(shape: LayerShape, rows: int, weights: int, operations: int) -> None:
    assert (shape.weights, shape.operations(rows)) == (weights, operations)


@pytest.mark.parametrize("shape", [LinearShape(8, 12), SMALL_CONV])
def test_a_layer_is_a_file_that_runs(shape: LayerShape, tmp_path: Path) -> None:
    build = linear_model if isinstance(shape, LinearShape) else conv_model
    path = build(shape, tmp_path / "model.onnx")  # type: ignore[arg-type]
    (layer,) = load_model(path).layers
    assert layer.parameters == shape.weights
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.ones(shape.input_shape(5), np.float32)})
    assert answer.shape == ((5, 12) if isinstance(shape, LinearShape) else (5, 8, 3, 3))


def test_resnet50_has_the_convolutions_of_its_group(tmp_path: Path) -> None:
    graph = load_model(resnet50(tmp_path / "model.onnx"))
    assert len(graph.layers) == 54
    assert sum(layer.parameters for layer in graph.layers) == 25_502_912
    built = {layer.weight_shape for layer in graph.layers if layer.operator == "Conv"}
    listed = {(s.outputs, s.inputs, s.kernel, s.kernel) for s in GROUPS["resnet50"]
              if isinstance(s, ConvShape)}  # fmt: skip
    assert built == listed | {(64, 3, 7, 7)}


def test_mobilenet_has_a_depthwise_layer_for_each_block(tmp_path: Path) -> None:
    layers = load_model(mobilenet_v1(tmp_path / "model.onnx")).layers
    assert sum(layer.is_depthwise for layer in layers) == 13
    assert len(layers) == 28
