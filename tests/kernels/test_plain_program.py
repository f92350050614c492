"""A program without Python loads ONNX Runtime and the kernels, and computes what Python does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from backends.kernels import library as kernel_sources
from backends.kernels.compilers import CCompiler
from backends.kernels.operators import SparseOperator
from backends.kernels.sparse_layer import Activation
from tests.kernels.test_operators import inputs_of, one_node_model

RUNTIMES = sorted(Path(ort.__file__).parent.glob("capi/libonnxruntime.so*"))
OPERATORS = (
    SparseOperator(False, False, False, False),
    SparseOperator(True, False, False, False, Activation.RELU),
    SparseOperator(False, False, False, False, normalizes=True, bf16=True),
    SparseOperator(False, True, True, False),
    SparseOperator(True, True, True, False, Activation.CLIP),
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RUNTIMES, reason="the wheel of ONNX Runtime has no shared library"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("plain") / "plain_program"
    source = Path(__file__).with_name("plain_program.c")
    headers = Path(kernel_sources.__file__).parent / "csrc"
    command = [*CCompiler.find().command, "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2",
               f"-I{headers}", str(source), "-o", str(made), "-ldl"]  # fmt: skip
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    return made


def run(
    program: Path, kernels: Path | str, model: Path, x: npt.NDArray[np.generic]
) -> subprocess.CompletedProcess[str]:
    """Inputs and outputs lie beside the model."""
    directory = model.parent
    (directory / "x").write_bytes(x.tobytes())
    kind = TensorProto.UINT8 if x.dtype == np.uint8 else TensorProto.FLOAT
    command = [program, RUNTIMES[0], kernels, model, kind, directory / "x", directory / "y",
               *x.shape]  # fmt: skip
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )


def model_without_function(operator: SparseOperator) -> onnx.ModelProto:
    """Nothing but the kernel can run it."""
    made = one_node_model(operator)
    del made.functions[:]
    return made


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
def test_it_computes_what_python_computes(
    operator: SparseOperator, program: Path, kernel_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model_without_function(operator), str(path))
    x = inputs_of(operator)["x"]
    done = run(program, kernel_path, path, x)
    assert done.returncode == 0, done.stderr
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(kernel_path))
    (expected,) = ort.InferenceSession(str(path), options).run(None, {"x": x})
    shape = tuple(int(line) for line in done.stdout.split())
    found = np.frombuffer((tmp_path / "y").read_bytes(), expected.dtype).reshape(shape)
    np.testing.assert_array_equal(found, expected)


def test_without_the_library_it_is_the_function_that_runs(program: Path, tmp_path: Path) -> None:
    operator = OPERATORS[0]
    path, x = tmp_path / "model.onnx", inputs_of(operator)["x"]
    onnx.save(model_without_function(operator), str(path))
    refused = run(program, "", path, x)
    assert refused.returncode == 1
    assert operator.name in refused.stderr
    model = one_node_model(operator)
    onnx.save(model, str(path))
    done = run(program, "", path, x)
    assert done.returncode == 0, done.stderr
    (expected,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    found = np.frombuffer((tmp_path / "y").read_bytes(), np.float32)
    np.testing.assert_allclose(found, np.ravel(expected), rtol=1e-6)
