"""The library inside ONNX Runtime: what it refuses, and that it does not race."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from backends.kernels.operators import SparseOperator
from tests.kernels.test_operators import inputs_of, one_node_model, reference

LINEAR = SparseOperator(False, False, False, False)
CONVOLUTION = SparseOperator(True, False, False, False)
INTEGER = SparseOperator(False, True, True, False)


def opened(model: onnx.ModelProto, kernels: Path, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(kernels))
    return ort.InferenceSession(model.SerializeToString(), options)


def with_constant(
    model: onnx.ModelProto, name: str, values: npt.NDArray[np.generic]
) -> onnx.ModelProto:
    """The model with one initializer replaced."""
    (old,) = (i for i in model.graph.initializer if i.name == name)
    old.CopyFrom(numpy_helper.from_array(values, name))
    return model


def constant(model: onnx.ModelProto, name: str) -> npt.NDArray[np.generic]:
    (found,) = (i for i in model.graph.initializer if i.name == name)
    return numpy_helper.to_array(found)


def broken_models() -> list[tuple[str, onnx.ModelProto, str]]:
    """What a damaged or hostile file may hold, and what is said about it."""
    gaps = constant(one_node_model(LINEAR), "gaps")
    past_the_end = np.full_like(gaps, 255)
    twice = gaps.copy()
    twice[1] = 0
    return [
        ("beyond the weight", with_constant(one_node_model(LINEAR), "gaps", past_the_end),
         "corrupted"),
        ("the same place twice", with_constant(one_node_model(LINEAR), "gaps", twice),
         "corrupted"),
        ("too few gaps", with_constant(one_node_model(LINEAR), "gaps", gaps[:-1]),
         "do not belong together"),
        ("a run of no weights", with_constant(one_node_model(LINEAR), "runs_shape",
         np.array([120, 0], np.int64)), "length"),
        ("fewer places than weights", with_constant(one_node_model(LINEAR), "runs_shape",
         np.array([119, 1], np.int64)), "do not fill"),
        ("an enormous weight", with_constant(one_node_model(LINEAR), "weight_shape",
         np.array([1 << 40, 1 << 40], np.int64)), "impossible size"),
        ("a negative size", with_constant(one_node_model(LINEAR), "weight_shape",
         np.array([-6, -20], np.int64)), "impossible size"),
        ("a weight of three dimensions", with_constant(one_node_model(LINEAR), "weight_shape",
         np.array([6, 4, 5], np.int64)), "dimensions"),
        ("a short bias", with_constant(one_node_model(LINEAR), "bias",
         np.zeros(5, np.float32)), "bias"),
        ("too few steps", with_constant(one_node_model(INTEGER), "weight_steps",
         np.ones(5, np.float32)), "step"),
        ("a step of zero", with_constant(one_node_model(INTEGER), "x_step",
         np.float32(0)), "positive"),  # type: ignore[arg-type]
    ]  # fmt: skip


@pytest.mark.parametrize("case", broken_models(), ids=lambda case: case[0])
def test_a_broken_weight_is_refused_when_the_session_is_created(
    case: tuple[str, onnx.ModelProto, str], kernel_path: Path
) -> None:
    with pytest.raises(Exception, match=case[2]):
        opened(case[1], kernel_path)


def test_a_weight_that_is_computed_is_refused(kernel_path: Path) -> None:
    model = one_node_model(LINEAR)
    (values,) = (i for i in model.graph.initializer if i.name == "values")
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("values", onnx.TensorProto.FLOAT, list(values.dims))
    )
    model.graph.initializer.remove(values)
    with pytest.raises(Exception, match="stored in the model"):
        opened(model, kernel_path)


@pytest.mark.parametrize(("operator", "shape"), [(LINEAR, (1, 3, 19)), (CONVOLUTION, (1, 5, 9, 8))])
def test_an_input_that_does_not_fit_is_refused_and_the_session_lives_on(
    operator: SparseOperator, shape: tuple[int, ...], kernel_path: Path
) -> None:
    session = opened(one_node_model(operator), kernel_path)
    with pytest.raises(Exception, match=r"as many (features|channels) as its weight"):
        session.run(None, {"x": np.zeros(shape, np.float32)})
    fitting = inputs_of(operator)
    (found,) = session.run(None, fitting)
    np.testing.assert_allclose(found, reference(operator, fitting["x"], None), atol=2e-4)


@pytest.mark.parametrize("rows", [0, 1, 3, 130])
def test_the_number_of_rows_is_free(rows: int, kernel_path: Path) -> None:
    session = opened(one_node_model(LINEAR), kernel_path, threads=2)
    x = np.random.default_rng(0).standard_normal((1, rows, 20)).astype(np.float32)
    (found,) = session.run(None, {"x": x})
    np.testing.assert_allclose(found, reference(LINEAR, x, None), atol=2e-4)


def test_two_sessions_in_two_threads(kernel_path: Path) -> None:
    sessions = [opened(one_node_model(op), kernel_path, threads=2) for op in (LINEAR, CONVOLUTION)]
    wrong: list[str] = []

    def work(session: ort.InferenceSession, operator: SparseOperator) -> None:
        given = inputs_of(operator)
        expected = reference(operator, given["x"], None)
        for _ in range(200):
            (found,) = session.run(None, given)
            if not np.allclose(found, expected, atol=2e-4):
                wrong.append(operator.name)

    threads = [
        threading.Thread(target=work, args=(session, operator))
        for session, operator in zip(sessions, (LINEAR, CONVOLUTION), strict=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
