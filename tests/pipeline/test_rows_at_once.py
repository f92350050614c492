"""Rows of one inference follow the largest activation of the data's own shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.model_graph import ModelGraph, load_model
from autosparse.pipeline.rows_at_once import MOST_ROWS_AT_ONCE, rows_at_once
from tests.models import Net


@pytest.fixture
def graph(tmp_path: Path) -> ModelGraph:
    """Images of any size, 16 channels from the first convolution on: 64 bytes a pixel."""
    net = Net()
    image = net.input("image", "batch", 3, "height", "width")
    net.node("Relu", net.conv(image, "stem", 3, 16), to="out")
    return load_model(net.save(tmp_path / "model.onnx", "out"))


def images(side: int) -> Dataset:
    return Dataset(inputs={"image": np.zeros((2, 3, side, side), np.float32)}, labels=None)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_largest_activation_stays_within_eight_mebibytes(graph: ModelGraph, batch: int) -> None:
    assert rows_at_once(graph, batch, [images(16)]) == MOST_ROWS_AT_ONCE
    assert rows_at_once(graph, batch, [images(128)]) == 8
    assert rows_at_once(graph, batch, [images(1024)]) == 1


def test_the_data_set_with_the_largest_rows_decides(graph: ModelGraph) -> None:
    assert rows_at_once(graph, 1, [images(16), images(128), None]) == 8
