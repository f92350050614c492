"""What lowered files compute: within the error of their grids, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from autosparse.errors import CompileError, MeasurementError
from autosparse.evaluation import LoweredModel, LoweringRequest
from autosparse.levels import Knobs, Level
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.lowering import INT8, Subject, answers, lower, request, subject, weight_at
from tests.models import Array, Floats, Net, images

BACKEND = OnnxRuntimeBackend()
Doubles = npt.NDArray[np.float64]
Build = Callable[[Net], None]


def conv(size: int = 3, *, group: int = 1, bias: bool = True) -> Build:
    def build(net: Net) -> None:
        net.conv(net.input("x", "n", 4, 8, 8), "layer", 4, 8, size, group=group, bias=bias)
        net.nodes[-1].output[0] = "y"

    return build


def gemm(transposed: int, *, bias: bool) -> Build:
    def build(net: Net) -> None:
        weight = net.weight("layer.weight", *((8, 6) if transposed else (6, 8)))
        inputs = [net.input("x", "n", 6), weight, *([net.weight("layer.bias", 8)] if bias else [])]
        net.node("Gemm", *inputs, name="layer", to="y", transB=transposed)

    return build


def matmul(*middle: int) -> Build:
    def build(net: Net) -> None:
        x = net.input("x", "n", *middle, 6)
        net.node("MatMul", x, net.weight("layer.weight", 6, 8), name="layer", to="y")

    return build


SINGLE: dict[str, tuple[Build, tuple[int, ...]]] = {
    "conv": (conv(), (5, 4, 8, 8)),
    "conv without bias": (conv(bias=False), (5, 4, 8, 8)),
    "conv 1x1": (conv(size=1), (5, 4, 8, 8)),
    "grouped": (conv(group=2), (5, 4, 8, 8)),
    "depthwise": (conv(group=4), (5, 4, 8, 8)),
    "gemm": (gemm(0, bias=True), (9, 6)),
    "gemm without bias": (gemm(0, bias=False), (9, 6)),
    "gemm transposed": (gemm(1, bias=True), (9, 6)),
    "matmul": (matmul(), (9, 6)),
    "matmul of three axes": (matmul(5), (3, 5, 6)),
    "matmul of four axes": (matmul(2, 5), (3, 2, 5, 6)),
}


def doubles(array: Array) -> Doubles:
    return array.astype(np.float64)


def grid_error(what: Subject, x: Floats) -> Doubles:
    """Bound on the error of a single int8 layer, output by output.

    An input is at most one step off (its zero point is rounded too), a weight half a step of its
    channel, the bias half a step of the product, the result one step of its own grid.
    """
    layer = what.graph.layers[0]
    weight = weight_at(what.graph, layer, INT8)
    assert weight.scales is not None
    step = float(what.ranges.tensors["x"].unsigned_grid()[0])
    largest = torch.from_numpy(np.abs(x) + step)
    weights = torch.from_numpy(np.abs(what.graph.weight(layer)))
    steps = np.ones_like(weight.values) * weight.scales[:, None]
    half_steps = layer.from_matrix(steps.astype(np.float32)) / 2
    if layer.operator == "Conv":
        pad, groups = layer.weight_shape[2] // 2, layer.groups
        half = torch.from_numpy(half_steps)
        bound = functional.conv2d(largest, half, padding=pad, groups=groups)
        bound += functional.conv2d(
            torch.full_like(largest, step), weights, padding=pad, groups=groups
        )
    else:
        turned = weights.T if layer.transposed else weights
        half = torch.from_numpy(half_steps.T if layer.transposed else half_steps)
        bound = largest @ half + torch.full_like(largest, step) @ turned
    if "y" in what.ranges.tensors:
        bound += float(what.ranges.tensors["y"].unsigned_grid()[0])
    per_channel = torch.from_numpy(weight.scales * step / 2)
    shape = (-1, 1, 1) if layer.operator == "Conv" else (-1,)
    return doubles((bound + per_channel.reshape(shape)).numpy()) * 1.001 + 1e-6


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", list(SINGLE))
def test_one_layer_is_within_the_error_of_its_grids(tmp_path: Path, name: str, seed: int) -> None:
    build, shape = SINGLE[name]
    net = Net(seed)
    build(net)
    rng = np.random.default_rng(seed + 10)
    x = (rng.standard_normal(shape) * rng.uniform(0.1, 10) + rng.uniform(-2, 2)).astype(np.float32)
    what = subject(net.save(tmp_path / "model.onnx", "y"), {"x": x})
    lowered = lower(what, ["layer"], tmp_path / "lowered")
    onnx.checker.check_model(str(lowered.path), full_check=True)
    error = np.abs(doubles(answers(lowered, {"x": x})["y"]) - doubles(what.dense["y"]))
    bound = grid_error(what, x)
    assert error.shape == bound.shape
    assert (error <= bound).all()
    assert error.max() > 0  # it really was quantized


@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
@pytest.mark.parametrize("integer", ["all", "blocks", "classifier"])
def test_the_kernels_compute_what_the_file_says(
    tmp_path: Path, residual: Subject, integer: str, activation_type: str
) -> None:
    """The optimized graph in integers against the same file run step by step in floats."""
    names = [la.name for la in residual.graph.layers if integer == "all" or integer[:5] in la.name]
    knobs = Knobs.model_validate({"activation_type": activation_type})
    asked = request(residual, dict.fromkeys(names, INT8), knobs)
    lowered = BACKEND.lower(asked, tmp_path)
    plain = LoweredModel(lowered.directory, lowered.entry, "disabled")
    dense = doubles(residual.dense["logits"])
    fused, stepwise = (
        doubles(answers(model, residual.inputs)["logits"]) for model in (lowered, plain)
    )
    assert np.abs(fused - stepwise).max() < 0.02 * np.abs(dense).max()
    assert np.abs(fused - dense).max() < 0.1 * np.abs(dense).max()


def test_baseline_levels_compute_the_same(tmp_path: Path, residual: Subject) -> None:
    found = answers(lower(residual, [], tmp_path), residual.inputs)["logits"]
    dense = doubles(residual.dense["logits"])
    np.testing.assert_allclose(doubles(found), dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", ["unstructured@0.9:fp32", "2:4:fp32", "block1x4@0.5:fp32"])
def test_zeros_in_fp32_are_exactly_the_masked_weights(
    tmp_path: Path, residual: Subject, level: str
) -> None:
    """The lowered file holds the compressed weight to the bit, as runs and the gaps between."""
    lowered = BACKEND.lower(request(residual, {"block1.a": Level.parse(level)}), tmp_path)
    mine = weight_at(residual.graph, residual.graph.layer("block1.a"), Level.parse(level))
    stored = {i.name: numpy_helper.to_array(i) for i in onnx.load(lowered.path).graph.initializer}
    found = np.zeros_like(mine.values).reshape(-1)
    places = np.cumsum(stored["block1.a_gaps"].astype(np.int64)) - 1
    found[places] = stored["block1.a_values"].reshape(-1)
    np.testing.assert_array_equal(found.reshape(mine.values.shape), mine.values)
    for other in residual.graph.layers:
        if other.name != "block1.a":
            np.testing.assert_array_equal(stored[other.weight], residual.graph.weight(other))


@pytest.mark.parametrize("integer", [[], ["stem"], ["classifier"], "all"])
def test_the_interface_stays_as_it_was(
    tmp_path: Path, residual: Subject, residual_model: Path, integer: list[str] | str
) -> None:
    names = [la.name for la in residual.graph.layers] if integer == "all" else integer
    after = onnx.load(str(lower(residual, names, tmp_path).path)).graph
    before = onnx.load(str(residual_model)).graph
    assert [v.SerializeToString() for v in after.input] == [
        v.SerializeToString() for v in before.input
    ]
    assert [v.name for v in after.output] == [v.name for v in before.output]
    for rows in (1, 3):
        inputs = {"image": images(rows)}
        found = answers(LoweredModel(tmp_path, "model.onnx"), inputs)["logits"]
        assert (found.shape, found.dtype) == ((rows, 10), np.dtype(np.float32))


def test_lowering_changes_nothing_of_the_graph_and_repeats(
    tmp_path: Path, residual: Subject
) -> None:
    names = [layer.name for layer in residual.graph.layers]
    before = [str(node.name) for node in residual.graph.model.graph]
    first = lower(residual, names, tmp_path / "a")
    again = lower(residual, names, tmp_path / "b")
    assert [str(node.name) for node in residual.graph.model.graph] == before
    assert first.sha256() == again.sha256()


def test_a_level_without_a_weight_is_a_compile_error(tmp_path: Path, residual: Subject) -> None:
    asked = request(residual, {"stem": INT8})
    empty = LoweringRequest(asked.graph, asked.recipe, {}, asked.ranges)
    with pytest.raises(CompileError, match="stem: no weight was made for dense:int8"):
        BACKEND.lower(empty, tmp_path)


def test_a_weight_without_integers_is_a_compile_error(tmp_path: Path, residual: Subject) -> None:
    asked = request(residual, {"stem": INT8})
    layer = residual.graph.layer("stem")
    floats = {"stem": weight_at(residual.graph, layer, Level.parse("2:4:fp32"))}
    with pytest.raises(CompileError, match="stem: its weight has no integers"):
        BACKEND.lower(LoweringRequest(asked.graph, asked.recipe, floats, asked.ranges), tmp_path)


def test_a_tensor_that_was_not_calibrated_is_a_compile_error(
    tmp_path: Path, residual: Subject
) -> None:
    asked = request(residual, {"stem": INT8})
    ranges = asked.ranges.model_copy(update={"tensors": {}})
    with pytest.raises(CompileError, match="'image' was not calibrated"):
        BACKEND.lower(LoweringRequest(asked.graph, asked.recipe, asked.weights, ranges), tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\x08\x09"])
def test_a_file_that_does_not_open_is_a_measurement_error(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(MeasurementError, match=r"cannot open model\.onnx") as caught:
        BACKEND.open(LoweredModel(tmp_path, "model.onnx"), threads=1)
    assert "\n" not in str(caught.value)


def test_inputs_that_do_not_fit_are_a_measurement_error(residual_model: Path) -> None:
    runner = BACKEND.open(LoweredModel(residual_model.parent, residual_model.name), threads=1)
    with pytest.raises(MeasurementError, match="ONNX Runtime failed"):
        runner.run({"image": np.zeros((1, 4, 8, 8), np.float32)})
    with pytest.raises(MeasurementError, match="ONNX Runtime failed"):
        runner.run({})
    assert runner.run({"image": images(1)})["logits"].shape == (1, 10)
