"""What the kernels refuse is known before a file is written: the same limits here and in C."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.errors import CompileError
from autosparse.evaluation import Target
from autosparse.levels import Level
from autosparse.model_graph import Layer
from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.limits import (
    LARGEST_PAD,
    LARGEST_STEP,
    LONGEST_WINDOW,
    MOST_OUTPUTS,
    MOST_PLANES,
    why_not_convolved,
)
from backends.kernels.sparse_layer import Convolution, SparseLayer
from backends.onnxruntime_backend import OnnxRuntimeBackend
from backends.tvm_artifact.lowering import why_not_int8
from tests.kernels.changed_models import with_attribute
from tests.kernels.test_custom_ops import CONVOLUTION, opened
from tests.kernels.test_lowering import both_answers, lowered
from tests.kernels.test_operators import one_node_model
from tests.lowering import subject
from tests.models import Net, images

UNSTRUCTURED = Level.parse("unstructured@0.75:fp32")
BLOCKS = Level.parse("block1x4@0.5:int8")


def convolution(outputs: int, channels: int, height: int, width: int) -> Layer:
    """As a model has it."""
    return Layer(
        name="c", node="c", operator="Conv", input="x", output="y", weight="w",
        weight_shape=(outputs, channels, height, width), bias=None,
    )  # fmt: skip


def packed(library: KernelLibrary, layer: Layer) -> None:
    """A weight of that shape with one non-zero."""
    outputs, channels, height, width = layer.weight_shape
    how = Convolution(channels, (height, width))
    first, one = np.zeros(1, np.int64), np.ones((1, 1), np.float32)
    depth = channels * height * width
    library.pack(SparseLayer(outputs, depth, positions=first, values=one, convolution=how))


@pytest.mark.parametrize(
    ("within", "beyond", "word"),
    [
        ((2, 4, 1, LONGEST_WINDOW), (2, 4, 1, LONGEST_WINDOW + 1), "window"),
        ((2, 4, LONGEST_WINDOW, 1), (2, 4, LONGEST_WINDOW + 1, 1), "window"),
        ((2, MOST_PLANES >> 12, 64, 64), (2, (MOST_PLANES >> 12) + 1, 64, 64), "window"),
        ((2, 4, 1, 1), (MOST_OUTPUTS + 1, 4, 1, 1), "outputs?"),
    ],
)
def test_a_weight_is_as_large_as_the_library_takes_it(
    within: tuple[int, ...], beyond: tuple[int, ...], word: str, library: KernelLibrary
) -> None:
    allowed, refused = convolution(*within), convolution(*beyond)
    assert why_not_convolved(allowed) == ""
    packed(library, allowed)
    assert "the sparse kernels know" in why_not_convolved(refused)
    with pytest.raises(CompileError, match=word):
        packed(library, refused)


@pytest.mark.parametrize(
    ("name", "count", "limit"),
    [("strides", 2, LARGEST_STEP), ("dilations", 2, LARGEST_STEP), ("pads", 4, LARGEST_PAD)],
)
def test_a_file_moves_as_far_as_the_library_takes_it(
    name: str, count: int, limit: int, kernel_path: Path
) -> None:
    opened(with_attribute(one_node_model(CONVOLUTION), name, [limit] * count), kernel_path)
    for numbers in ([limit] * (count - 1) + [limit + 1], [-1] * count):
        with pytest.raises(Exception, match="impossible"):
            opened(with_attribute(one_node_model(CONVOLUTION), name, numbers), kernel_path)


GEOMETRIES: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "a long window": ((1, LONGEST_WINDOW + 1), {"pads": [0, 32, 0, 32]}),
    "a long stride": ((1, 1), {"strides": [1, LARGEST_STEP + 1]}),
    "far taps": ((1, 2), {"dilations": [1, LARGEST_STEP + 1], "pads": [0, 1025, 0, 0]}),
    "much padding": ((1, 1), {"pads": [0, LARGEST_PAD + 1, 0, 0]}),
}


@pytest.mark.parametrize("level", [UNSTRUCTURED, BLOCKS], ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_convolution_beyond_them_stays_with_the_runtime(
    geometry: str, level: Level, tmp_path: Path
) -> None:
    """It did cost every layer of its file: no session could be created."""
    window, attributes = GEOMETRIES[geometry]
    net = Net()
    x = net.input("x", "batch", 4, 6, 40)
    near = net.conv(x, "near", 4, 8)
    weight = net.weight("far.weight", 8, 8, *window)
    net.node("Conv", near, weight, name="far", to="y", **attributes)
    what = subject(net.save(tmp_path / "c.onnx", "y"), {"x": images(2, shape=(4, 6, 40))})
    levels = dict.fromkeys(("near", "far"), level)
    model, executed = lowered(what, levels, tmp_path / "sparse")
    assert executed["near"].skips_zeros
    assert not executed["far"].skips_zeros
    with_kernels, without = both_answers(model, what.inputs, tmp_path)
    bound = 1e-5 if level is UNSTRUCTURED else np.abs(without).max() / 30
    np.testing.assert_allclose(with_kernels, without, atol=bound)


def test_a_window_beyond_them_is_no_choice() -> None:
    layer = convolution(8, 8, 1, LONGEST_WINDOW + 1)
    for level in (UNSTRUCTURED, BLOCKS):
        found = OnnxRuntimeBackend().capability(layer, level, Target())
        assert not found.can_win
        assert found.reason == (
            "c: the sparse kernels know windows of up to 64 places along an axis, and it has 1x65"
        )
    assert "1x65" in why_not_int8(layer)
    usual = dataclasses.replace(layer, weight_shape=(8, 8, 1, LONGEST_WINDOW))
    assert why_not_int8(usual) == ""
