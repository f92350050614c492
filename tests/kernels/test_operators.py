"""The stored form of a sparse weight, and the dense meaning that travels with every operator."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy.special import erf, expit

from autosparse.levels.bf16 import bf16_bits
from backends.kernels.operators import DOMAIN, VERSION, SparseOperator, store_runs
from backends.kernels.sparse_layer import Activation, nonzero_runs

OPSET = 17
EPSILON = 0.125
NORM = {
    "norm_scale": np.linspace(-1, 2, 6, dtype=np.float32),
    "norm_shift": np.linspace(3, -3, 6, dtype=np.float32),
}
OPERATORS = [
    SparseOperator(convolution, *types, adds, activation)
    for convolution, types, adds, activation in itertools.product(
        (False, True), ((False, False), (True, False), (True, True)), (False, True), Activation
    )
]
OPERATORS += [
    SparseOperator(False, False, False, adds, activation, bf16=True)
    for adds, activation in itertools.product((False, True), Activation)
]
OPERATORS += [
    SparseOperator(False, integer_input, False, adds, normalizes=True, bf16=bf16)
    for (integer_input, bf16), adds in itertools.product(
        ((False, False), (True, False), (False, True)), (False, True)
    )
]


@given(st.sets(st.integers(0, 3000), max_size=40))
def test_positions_come_back_from_their_gaps(places: set[int]) -> None:
    positions = np.array(sorted(places), np.int64)
    values = np.arange(1, len(places) + 1, dtype=np.float32).reshape(-1, 1)
    stored = store_runs(positions, values)
    ends = np.cumsum(stored.gaps.astype(np.int64)) - 1
    kept = stored.values.any(axis=1)
    assert stored.gaps.min(initial=1) >= 1
    np.testing.assert_array_equal(ends[kept], positions)
    np.testing.assert_array_equal(stored.values[kept], values)


def test_runs_that_hold_only_zeros_are_left_out() -> None:
    weight = np.array([[0, 0, 1, 0], [0, 0, 0, 0]], np.int8)
    positions, values = nonzero_runs(weight, 2)
    np.testing.assert_array_equal(positions, [1])
    np.testing.assert_array_equal(values, [[1, 0]])


def test_every_operator_has_a_name_of_its_own() -> None:
    assert len({operator.name for operator in OPERATORS}) == len(OPERATORS) == 76
    assert (
        SparseOperator(True, True, False, True, Activation.RELU).name == "QSparseConvToFloatAddRelu"
    )
    assert SparseOperator(False, False, False, True, normalizes=True).name == "SparseMatMulAddNorm"
    assert SparseOperator(False, False, False, True, bf16=True).name == "BSparseMatMulAdd"


def weights(operator: SparseOperator) -> npt.NDArray[np.float32]:
    """(6, K): a convolution's K is 3 x 3 x 4."""
    rng = np.random.default_rng(3)
    depth = 36 if operator.convolution else 20
    drawn = rng.integers(-9, 9, (6, depth)) * (rng.random((6, depth)) < 0.3)
    return drawn.astype(np.float32)


def one_node_model(operator: SparseOperator, opset: int = OPSET) -> onnx.ModelProto:
    """The operator alone, with its function; `x` and `residual` are inputs."""
    weight = weights(operator)
    run = 4 if operator.integer_input else 2 if operator.bf16 else 1
    if operator.integer_input:
        stored = store_runs(*nonzero_runs(weight.astype(np.int8), run))
    elif operator.bf16:  # which has all of these numbers, and those of the input
        stored = store_runs(*nonzero_runs(bf16_bits(weight), run))
    else:
        stored = store_runs(*nonzero_runs(weight, run))
    shape = (6, 3, 3, 4) if operator.convolution else weight.shape
    constants = {
        "x_step": np.float32(0.5), "x_zero": np.uint8(3), "values": stored.values,
        "gaps": stored.gaps, "runs_shape": np.array([weight.size // run, run], np.int64),
        "weight_shape": np.array(shape, np.int64),
        "weight_steps": np.linspace(0.1, 0.6, 6, dtype=np.float32),
        "bias": np.arange(6, dtype=np.float32), "low": np.float32(-4), "high": np.float32(4),
        "y_step": np.float32(0.25), "y_zero": np.uint8(100), **NORM,
    }  # fmt: skip
    given_types = {"x": TensorProto.UINT8 if operator.integer_input else TensorProto.FLOAT}
    if operator.adds:
        given_types["residual"] = TensorProto.FLOAT
    attributes: dict[str, Any] = (
        {"strides": [2, 1], "pads": [1, 0, 1, 2], "dilations": [1, 2], "group": 1}
        if operator.convolution
        else {"epsilon": EPSILON}
        if operator.normalizes
        else {}
    )
    dims = list("abcd") if operator.convolution else list("abc")
    result = TensorProto.UINT8 if operator.integer_output else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator.name, operator.inputs, ["y"], domain=DOMAIN, **attributes)],
        "net",
        [helper.make_tensor_value_info(n, kind, dims) for n, kind in given_types.items()],
        [helper.make_tensor_value_info("y", result, dims)],
        [constant_tensor(n, np.asarray(v)) for n, v in constants.items() if n in operator.inputs],
    )  # fmt: skip
    function = onnx.FunctionProto()
    function.ParseFromString(serialized_function(operator, opset))
    model = helper.make_model(
        graph, functions=[function],
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)],
    )  # fmt: skip
    model.ir_version = 9
    return model


def constant_tensor(name: str, values: npt.NDArray[Any]) -> onnx.TensorProto:
    """An initializer; the bits of bf16 come as uint16."""
    if values.dtype != np.uint16:
        return numpy_helper.from_array(values, name)
    return helper.make_tensor(name, TensorProto.BFLOAT16, values.shape, values.tobytes(), raw=True)


def serialized_function(operator: SparseOperator, opset: int) -> bytes:
    return bytes(ir.to_proto(operator.function(opset)).SerializeToString())


def normalized(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    off = values - values.mean(axis=-1, keepdims=True)
    variance = np.square(off).mean(axis=-1, keepdims=True)
    unit = off / np.sqrt(variance + EPSILON)
    return np.asarray(unit * NORM["norm_scale"] + NORM["norm_shift"])


def activated(operator: SparseOperator, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    match operator.activation:
        case Activation.RELU:
            return np.maximum(values, 0)
        case Activation.CLIP:
            return np.clip(values, -4, 4)
        case Activation.GELU:
            return np.asarray(0.5 * values * (1 + erf(values / np.sqrt(2))))
        case Activation.SILU:
            return np.asarray(values * expit(values))
    return values


def reference(
    operator: SparseOperator, x: npt.NDArray[np.generic], residual: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float64]:
    """The meaning in float64, before the result is quantized."""
    weight = weights(operator).astype(np.float64)
    real = x.astype(np.float64)
    if operator.integer_input:
        real = (real - 3) * 0.5
        weight = weight * np.linspace(0.1, 0.6, 6, dtype=np.float32).astype(np.float64)[:, None]
    bias = np.arange(6, dtype=np.float64)
    if operator.convolution:
        kernel = np.moveaxis(weight.reshape(6, 3, 3, 4), -1, 1)
        padded = np.pad(real, ((0, 0), (0, 0), (1, 1), (0, 2)))
        product = torch.nn.functional.conv2d(
            torch.tensor(padded), torch.tensor(kernel), torch.tensor(bias), stride=(2, 1),
            dilation=(1, 2),
        ).numpy()  # fmt: skip
    else:
        product = real @ weight.T + bias
    total = np.asarray(product if residual is None else product + residual, np.float64)
    return normalized(total) if operator.normalizes else activated(operator, total)


def inputs_of(operator: SparseOperator) -> dict[str, npt.NDArray[np.generic]]:
    """Random `x` and, where it is added, `residual`."""
    rng = np.random.default_rng(4)
    shape = (2, 4, 9, 8) if operator.convolution else (2, 5, 20)
    x = rng.integers(0, 256, shape).astype(np.uint8)
    given_x = x if operator.integer_input else (x / 64).astype(np.float32)
    found: dict[str, npt.NDArray[np.generic]] = {"x": given_x}
    if operator.adds:
        empty = np.zeros_like(reference(operator, given_x, None))
        found["residual"] = rng.standard_normal(empty.shape).astype(np.float32)
    return found


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
@pytest.mark.parametrize("library", [False, True], ids=["stock", "kernels"])
def test_the_stock_runtime_and_the_kernels_mean_the_same(
    operator: SparseOperator, library: bool, kernel_path: Path
) -> None:
    options = ort.SessionOptions()
    if library:
        options.register_custom_ops_library(str(kernel_path))
    session = ort.InferenceSession(one_node_model(operator).SerializeToString(), options)
    given_inputs = inputs_of(operator)
    (found,) = session.run(None, given_inputs)
    residual = given_inputs.get("residual")
    expected = reference(
        operator, given_inputs["x"], None if residual is None else residual.astype(np.float32)
    )
    assert found.shape == expected.shape
    if operator.integer_output:
        grid = np.clip(np.rint(expected / 0.25) + 100, 0, 255)
        assert np.abs(found.astype(int) - grid).max() <= 1
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4)


def test_a_normalization_means_the_same_where_the_opset_has_none(kernel_path: Path) -> None:
    for operator in (o for o in OPERATORS if o.normalizes):
        given_inputs = inputs_of(operator)
        residual = given_inputs.get("residual")
        expected = reference(
            operator, given_inputs["x"], None if residual is None else residual.astype(np.float32)
        )
        for opset in (13, 16):
            model = one_node_model(operator, opset).SerializeToString()
            (found,) = ort.InferenceSession(model).run(None, given_inputs)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_the_functions_are_valid_in_old_and_new_opsets(opset: int) -> None:
    for operator in OPERATORS:
        onnx.checker.check_model(one_node_model(operator, opset))
