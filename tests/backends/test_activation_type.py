"""Activations in uint8 or int8: the same real numbers, the same integer kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosparse.calibration import Range
from autosparse.levels import Knobs
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.lowering import INT8, answers, executed, request, subject
from tests.models import Net, images, residual_cnn

SIGNED = Knobs(activation_type="int8")
BOTH = [Knobs(), SIGNED]
limits = st.floats(-1e30, 1e30, allow_nan=False)


def chain() -> Net:
    """Two convolutions, a pooling and a classifier, one after the other."""
    net = Net(2)
    value = net.input("image", "batch", 3, 8, 8)
    value = net.node("Relu", net.conv(value, "a", 3, 8), name="a.relu")
    value = net.node("Relu", net.conv(value, "b", 8, 8), name="b.relu")
    value = net.node("Flatten", net.node("GlobalAveragePool", value, name="pool"), name="flat")
    weight, bias = net.weight("c.weight", 10, 8), net.weight("c.bias", 10)
    net.node("Gemm", value, weight, bias, name="c", to="logits", transB=1)
    return net


@settings(max_examples=100)
@given(limits, limits)
def test_both_grids_have_the_same_points(one: float, other: float) -> None:
    span = Range(low=min(one, other), high=max(one, other))
    scale, zero = span.unsigned_grid()
    signed_scale, signed_zero = span.signed_grid()
    assert signed_scale == scale
    assert signed_zero.dtype == np.int8
    assert int(signed_zero) == int(zero) - 128


@pytest.mark.parametrize(
    ("low", "high", "zero"), [(-1.0, 1.55, -28), (0.0, 2.55, -128), (-2.55, 0.0, 127)]
)
def test_the_signed_grid_by_hand(low: float, high: float, zero: int) -> None:
    found_scale, found_zero = Range(low=low, high=high).signed_grid()
    assert float(found_scale) == pytest.approx(0.01)
    assert int(found_zero) == zero


@pytest.mark.parametrize("knobs", BOTH, ids=lambda knobs: knobs.activation_type)
def test_every_layer_runs_in_integers_of_the_asked_type(tmp_path: Path, knobs: Knobs) -> None:
    path = chain().save(tmp_path / "net.onnx", "logits")
    what = subject(path, {"image": images(4)})
    asked = request(what, {la.name: INT8 for la in what.graph.layers}, knobs)
    lowered = OnnxRuntimeBackend().lower(asked, tmp_path / "out")
    assert {r.precision for r in executed(what, lowered).values()} == {"int8"}
    written = onnx.load(lowered.path)
    stored = {i.name: i.data_type for i in written.graph.initializer}
    types = {stored[n.input[2]] for n in written.graph.node if n.op_type == "QuantizeLinear"}
    expected = onnx.TensorProto.INT8 if knobs is SIGNED else onnx.TensorProto.UINT8
    assert types == {expected}


def test_both_types_give_the_same_answers(tmp_path: Path) -> None:
    path = residual_cnn(seed=2).save(tmp_path / "net.onnx", "logits")
    inputs = {"image": images(8)}
    what = subject(path, inputs)
    found = []
    for knobs in BOTH:
        # mixed precision: the guarded DequantizeLinear must follow the type too
        levels = {la.name: INT8 for la in what.graph.layers if la.name != "block2.a"}
        asked = request(what, levels, knobs)
        lowered = OnnxRuntimeBackend().lower(asked, tmp_path / knobs.activation_type)
        assert executed(what, lowered)["block2.a"].precision == "fp32"
        found.append(answers(lowered, inputs)["logits"].astype(np.float64))
    # kernels may round a tie differently, which moves a result by a step or so
    assert np.abs(found[0] - found[1]).max() <= 0.02 * np.abs(found[0]).max()


def test_a_relu_still_clips_at_zero(tmp_path: Path) -> None:
    net = Net(1)
    x = net.input("x", "batch", 16)
    hidden = net.node("Gemm", x, net.weight("a.weight", 8, 16), name="a", transB=1)
    hidden = net.node("Relu", hidden, name="relu")
    net.node(
        "Gemm", hidden, net.constant("b.weight", np.eye(8, dtype=np.float32)), name="b", to="y"
    )
    path = net.save(tmp_path / "net.onnx", "y")
    inputs = {"x": np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)}
    what = subject(path, inputs)
    asked = request(what, {"a": INT8, "b": INT8}, SIGNED)
    lowered = OnnxRuntimeBackend().lower(asked, tmp_path / "out")
    found = answers(lowered, inputs)["y"].astype(np.float32)
    assert found.min() >= 0.0
    assert (found == 0.0).any()
