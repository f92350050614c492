"""Files are what the library would write, and writing them takes the memory of one weight."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from autosparse.evaluation.peak_memory import peak_growth
from backends import model_file
from backends.model_file import save_model

_MATRIX = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


def chain(weights: int, side: int, names: str = "w") -> ir.Model:
    """A product of many matrices, as a model that was built in memory."""
    rng = np.random.default_rng(1)
    nodes, initializers = [], []
    value = onnx.helper.make_tensor_value_info
    for n in range(weights):
        matrix = rng.standard_normal((side, side)).astype(np.float32)
        initializers.append(onnx.numpy_helper.from_array(matrix, f"{names}{n}"))
        nodes.append(onnx.helper.make_node("MatMul", [f"x{n}", f"{names}{n}"], [f"x{n + 1}"]))
    nodes.append(onnx.helper.make_node("Add", [f"x{weights}", "small"], ["y"]))
    initializers.append(onnx.numpy_helper.from_array(np.ones(side, np.float32), "small"))
    graph = onnx.helper.make_graph(
        nodes, "chain",
        [value("x0", onnx.TensorProto.FLOAT, ["batch", side])],
        [value("y", onnx.TensorProto.FLOAT, ["batch", side])],
        initializers,
    )  # fmt: skip
    opset = [onnx.helper.make_opsetid("", 21)]
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10))


def test_the_file_is_what_the_library_writes_but_for_the_order(tmp_path: Path) -> None:
    model = chain(3, 64)
    ours, theirs = tmp_path / "ours.onnx", tmp_path / "theirs.onnx"
    save_model(model, ours)
    ir.save(model, theirs)
    written, expected = onnx.load(str(ours)), onnx.load(str(theirs))
    onnx.checker.check_model(written, full_check=True)
    for message in (written, expected):
        message.graph.initializer.sort(key=lambda tensor: tensor.name)
    assert written == expected
    assert ours.stat().st_size == theirs.stat().st_size
    row = {"x0": np.ones((2, 64), np.float32)}
    answers = [ort.InferenceSession(str(path)).run(None, row)[0] for path in (ours, theirs)]
    np.testing.assert_array_equal(*answers)


def test_the_model_keeps_its_weights(tmp_path: Path) -> None:
    model = chain(2, 64)
    before = {name: v.const_value for name, v in model.graph.initializers.items()}
    save_model(model, tmp_path / "model.onnx")
    assert {name: v.const_value for name, v in model.graph.initializers.items()} == before


@pytest.mark.parametrize(
    "array",
    [
        _MATRIX.astype(np.float16),
        _MATRIX.astype(ml_dtypes.bfloat16),
        _MATRIX.astype(np.float64),
        np.tile((10 * _MATRIX).astype(np.int8), (2, 1)),
        (10 * _MATRIX).astype(np.int64),
        np.tile(_MATRIX > 0, (2, 1)),
        np.tile((2 * _MATRIX).astype(ml_dtypes.int4), (5, 1)),
        np.broadcast_to(_MATRIX[0], (64, 64)),
        _MATRIX.T,
    ],
    ids=["float16", "bfloat16", "float64", "int8", "int64", "bool", "int4", "broadcast", "view"],
)
def test_every_kind_of_weight_comes_back(array: np.ndarray, tmp_path: Path) -> None:
    model = chain(1, 64)
    model.graph.register_initializer(
        ir.Value(name="more", const_value=ir.tensor(array, name="more"))
    )
    save_model(model, tmp_path / "model.onnx")
    tensor = ir.load(tmp_path / "model.onnx").graph.initializers["more"].const_value
    assert tensor is not None
    assert tensor.nbytes > 1 << 12
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_names_and_lengths_of_any_size(tmp_path: Path) -> None:
    model = chain(2, 300, names="weight_of_a_deep_module." * 40)  # lengths of one, two, three bytes
    save_model(model, tmp_path / "model.onnx")
    back = ir.load(tmp_path / "model.onnx")
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        stored = back.graph.initializers[name].const_value
        assert stored is not None
        np.testing.assert_array_equal(stored.numpy(), value.const_value.numpy())


def test_large_models_keep_their_weights_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "_EXTERNAL_DATA_FROM", 1 << 14)
    save_model(chain(3, 64), tmp_path / "model.onnx")
    assert (tmp_path / "model.data").stat().st_size >= 3 * 64 * 64 * 4
    session = ort.InferenceSession(str(tmp_path / "model.onnx"))
    assert session.run(None, {"x0": np.ones((1, 64), np.float32)})[0].shape == (1, 64)


def test_writing_takes_the_memory_of_one_weight(tmp_path: Path) -> None:
    model = chain(16, 1024)  # 64 MiB in all
    save_model(model, tmp_path / "model.onnx")  # whatever is loaded on the way is loaded now
    _, growth = peak_growth(lambda: save_model(model, tmp_path / "model.onnx"))
    if growth is None:
        pytest.skip("this system does not tell the peak memory of a process")
    assert growth < 20 << 20
