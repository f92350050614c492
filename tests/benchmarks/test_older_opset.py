"""Models for engines that read opset 13 and no newer one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from autosparse.errors import CompileError
from autosparse.evaluation import LoweredModel
from benchmarks.older_opset import OPSET, write_older
from tests.models import Net


def test_what_has_no_older_form_is_written_out(tmp_path: Path) -> None:
    net = Net(opset=20)
    x = net.input("x", "batch", 4, 8)
    scale, shift = net.weight("scale", 8), net.weight("shift", 8)
    normal = net.node("LayerNormalization", x, scale, shift, axis=-1)
    active = net.node("Gelu", normal)
    size = net.node("Shape", active, start=0, end=1)
    shape = net.node("Concat", size, net.constant("rest", np.array([32])), axis=0)
    flat = net.node("Reshape", active, shape, allowzero=1)
    length = net.node("ReduceL2", flat, net.constant("axes", np.array([1])), keepdims=1)
    net.save(tmp_path / "model.onnx", net.node("Div", flat, length))
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 4, 8), dtype=np.float32)}
    older = write_older(LoweredModel(tmp_path, "model.onnx"), inputs)
    model = onnx.load(str(older.path))
    assert [imported.version for imported in model.opset_import] == [OPSET]
    onnx.checker.check_model(model, full_check=True)


def test_a_model_that_is_old_enough_stays(tmp_path: Path) -> None:
    net = Net(opset=13)
    net.save(tmp_path / "model.onnx", net.node("Relu", net.input("x", 1, 2)))
    file = LoweredModel(tmp_path, "model.onnx")
    assert write_older(file, {"x": np.zeros((1, 2), np.float32)}) is file


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    net = Net(opset=20)
    net.save(tmp_path / "model.onnx", net.node("Mish", net.input("x", 1, 2), name="active"))
    with pytest.raises(CompileError, match="active: no form of Mish in opset 13"):
        write_older(LoweredModel(tmp_path, "model.onnx"), {"x": np.zeros((1, 2), np.float32)})
