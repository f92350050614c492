"""Rows times the weight matrix must give what the runtime's own operator gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from autosparse.calibration.windows import InputRows, Window, window_of
from autosparse.model_graph import Layer

Floats = npt.NDArray[np.float32]


def model_of(operator: str, x: Floats, weight: Floats, **attributes: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"], name="n", **attributes)],
        "one_layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, x: Floats) -> Floats:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, {"x": x})[0])


def window_in(model: onnx.ModelProto) -> Window:
    return window_of(ir.from_proto(model).graph[0])


def random(*shape: int) -> Floats:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "weight", "attributes"),
    [
        pytest.param((2, 3, 7, 6), (4, 3, 3, 3), {}, id="plain"),
        pytest.param((2, 3, 7, 6), (4, 3, 1, 1), {}, id="pointwise"),
        pytest.param((2, 3, 7, 6), (4, 3, 3, 2), {"pads": [1, 0, 2, 1]}, id="uneven pads"),
        pytest.param((2, 3, 9, 8), (4, 3, 3, 3), {"strides": [2, 3]}, id="strides"),
        pytest.param(
            (2, 3, 9, 8), (4, 3, 3, 3), {"dilations": [2, 1], "pads": [2, 1, 2, 1]}, id="dilations"
        ),
        pytest.param((2, 4, 7, 6), (6, 2, 3, 3), {"group": 2, "pads": [1] * 4}, id="grouped"),
        pytest.param((2, 4, 7, 6), (4, 1, 3, 3), {"group": 4, "strides": [2, 2]}, id="depthwise"),
        pytest.param((2, 3, 11), (4, 3, 3), {"strides": [2], "pads": [1, 0]}, id="1-D"),
        pytest.param((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"strides": [1, 2, 1]}, id="3-D"),
        pytest.param(
            (2, 3, 8, 7), (4, 3, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, id="upper"
        ),
        pytest.param(
            (2, 3, 8, 7), (4, 3, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}, id="lower"
        ),
        pytest.param((2, 3, 8, 7), (4, 3, 3, 4), {"auto_pad": "VALID"}, id="valid"),
    ],
)
def test_a_convolution_is_its_rows_times_its_matrix(
    x: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    activations, stored = random(*x), random(*weight)
    model = model_of("Conv", activations, stored, **attributes)
    groups = attributes.get("group", 1)
    layer = Layer("l", "n", "Conv", "x", "y", "w", weight, None, groups=groups)
    rows = InputRows(activations, window_in(model), groups)

    taken = rows.take(np.arange(len(rows)))
    assert taken.shape == (groups, len(rows), layer.reduction)
    matrix = layer.to_matrix(stored).reshape(groups, -1, layer.reduction)
    product = taken @ matrix.transpose(0, 2, 1)  # (groups, positions, channels of a group)

    expected = np.moveaxis(run(model, activations), 1, -1).reshape(len(rows), groups, -1)
    assert np.allclose(product, expected.transpose(1, 0, 2), atol=1e-4)


def test_a_convolution_agrees_with_unfold() -> None:
    x = random(2, 3, 9, 8)
    window = Window((3, 2), (2, 1), (1, 2), ((1, 1), (2, 2)))
    rows = InputRows(x, window)
    patches = torch.nn.functional.unfold(
        torch.tensor(x), kernel_size=(3, 2), dilation=(1, 2), padding=(1, 2), stride=(2, 1)
    )
    # unfold orders the columns Cin, kh, kw
    expected = patches.reshape(2, 3, 6, -1).permute(0, 3, 2, 1).reshape(1, len(rows), 18)
    assert np.array_equal(rows.take(np.arange(len(rows))), expected.numpy())


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (2, 2, 3, 4)])
def test_the_rows_of_a_matrix_product_are_its_input(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    model = model_of("MatMul", x, random(4, 6))
    assert window_in(model) == Window()
    rows = InputRows(x, window_in(model))
    assert np.array_equal(rows.take(np.arange(len(rows)))[0], x.reshape(-1, 4))


def test_only_the_chosen_rows_are_built() -> None:
    rows = InputRows(random(3, 2, 6, 6), Window((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))))
    assert len(rows) == 3 * 36
    everything = rows.take(np.arange(len(rows)))
    chosen = np.array([0, 5, 37, 107])
    assert np.array_equal(rows.take(chosen), everything[:, chosen])
