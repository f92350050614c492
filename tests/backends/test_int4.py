"""4-bit weights: what is packed, what ONNX Runtime computes from it, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from autosparse.errors import CompileError
from autosparse.evaluation import LoweredModel, Target
from autosparse.levels import Level
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import Layer
from backends.onnxruntime_backend import OnnxRuntimeBackend
from backends.weights4 import packed
from tests.lowering import INT8, executed, lower, request, subject, weight_at
from tests.lowering import answers as all_answers
from tests.models import Array, Floats, Net

INT4 = Level.parse("dense:int4")
ROWS, WIDTH, CLASSES = 5, 64, 10


def rows(*shape: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def answers(lowered: LoweredModel, inputs: Mapping[str, Array]) -> dict[str, Floats]:
    return {n: v.astype(np.float32) for n, v in all_answers(lowered, inputs).items()}


def transformer_block(batch: int | str = "batch") -> Net:
    """A MatMul with its Add, a Relu, and a Gemm: `x` (batch, 64) -> `logits` (batch, 10)."""
    net = Net(3)
    x = net.input("x", batch, WIDTH)
    product = net.node("MatMul", x, net.weight("up.weight", WIDTH, 96), name="up")
    hidden = net.node("Relu", net.node("Add", product, net.weight("up.bias", 96)), name="relu")
    weight, bias = net.weight("head.weight", CLASSES, 96), net.weight("head.bias", CLASSES)
    net.node("Gemm", hidden, weight, bias, name="head", to="logits", transB=1)
    return net


def reference(path: Path, what_at: dict[str, CompressedWeight], x: Floats) -> Floats:
    """The block in float64, with the dequantized weights."""
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    up, head = (what_at[name].values.astype(np.float64) for name in ("up", "head"))
    hidden = np.maximum(x.astype(np.float64) @ up.T + stored["up.bias"], 0)
    return np.asarray(hidden @ head.T + stored["head.bias"], dtype=np.float32)


def test_two_weights_share_a_byte_the_first_in_the_low_half() -> None:
    integers = np.zeros((1, 64), dtype=np.int8)
    integers[0, :3] = (1, -7, 7)
    integers[0, 32] = -8
    made = packed(integers)
    assert made.shape == (1, 2, 16)
    # 8 stands for zero: 1 -> 9, -7 -> 1, 7 -> 15, -8 -> 0
    assert made[0, 0, :3].tolist() == [0x19, 0x8F, 0x88]
    assert made[0, 1, 0] == 0x80


def test_the_runtime_multiplies_with_the_weights_of_the_grid(tmp_path: Path) -> None:
    path = transformer_block().save(tmp_path / "net.onnx", "logits")
    what = subject(path, {"x": rows(ROWS, WIDTH)})
    asked = request(what, {"up": INT4, "head": INT4})
    lowered = OnnxRuntimeBackend().lower(asked, tmp_path / "out")
    for batch in (1, ROWS, 40):
        x = rows(batch, WIDTH, seed=batch)
        found = answers(lowered, {"x": x})["logits"]
        exact = reference(path, dict(asked.weights), x)
        # the operator rounds inputs to int8 in blocks: two layers of at most half a step in 127,
        # of inputs that reach about 3, over a root-mean-square of 1
        assert np.sqrt(np.mean((found - exact) ** 2)) < 0.02 * exact.std()
    runs = executed(what, lowered)
    assert {name: (r.kernel, r.precision) for name, r in runs.items()} == dict.fromkeys(
        ("up", "head"), ("MatMulNBits", "int4")
    )


def test_what_it_loses_is_within_half_a_step_of_every_weight(tmp_path: Path) -> None:
    path = transformer_block().save(tmp_path / "net.onnx", "logits")
    graph = subject(path, {"x": rows(ROWS, WIDTH)}).graph
    layer = graph.layer("up")
    made = weight_at(graph, layer, INT4)
    assert made.scales is not None
    assert made.scales.shape == (96, 2)
    steps = np.repeat(made.scales, 32, axis=1)
    dense = layer.to_matrix(graph.weight(layer))
    assert (np.abs(made.values - dense) <= 0.5001 * steps).all()


def test_the_interface_stays_and_the_batch_stays_free(tmp_path: Path) -> None:
    path = transformer_block().save(tmp_path / "net.onnx", "logits")
    what = subject(path, {"x": rows(ROWS, WIDTH)})
    lowered = OnnxRuntimeBackend().lower(request(what, {"head": INT4}), tmp_path / "out")
    before, after = onnx.load(path), onnx.load(lowered.path)
    onnx.checker.check_model(after)
    assert [v.name for v in after.graph.output] == ["logits"]
    assert after.graph.input == before.graph.input
    assert {o.domain: o.version for o in after.opset_import}["com.microsoft"] == 1
    assert lowered.path.stat().st_size < path.stat().st_size
    for batch in (1, 7):
        assert answers(lowered, {"x": rows(batch, WIDTH)})["logits"].shape == (batch, CLASSES)


def test_sequences_keep_their_shape(tmp_path: Path) -> None:
    net = Net(4)
    x = net.input("x", "batch", "length", WIDTH)
    net.node("MatMul", x, net.weight("fc.weight", WIDTH, 7), name="fc", to="y")
    path = net.save(tmp_path / "net.onnx", "y")
    what = subject(path, {"x": rows(2, 3, WIDTH)})
    lowered = OnnxRuntimeBackend().lower(request(what, {"fc": INT4}), tmp_path / "out")
    assert answers(lowered, {"x": rows(4, 9, WIDTH)})["y"].shape == (4, 9, 7)


@pytest.mark.parametrize("bias_size", [CLASSES, 1])
def test_what_a_gemm_multiplies_and_adds_is_kept(tmp_path: Path, bias_size: int) -> None:
    net = Net(5)
    x = net.input("x", "batch", WIDTH)
    weight, bias = net.weight("fc.weight", WIDTH, CLASSES), net.weight("fc.bias", bias_size)
    net.node("Gemm", x, weight, bias, name="fc", to="y", alpha=0.5, beta=2.0)
    path = net.save(tmp_path / "net.onnx", "y")
    inputs = {"x": rows(ROWS, WIDTH)}
    what = subject(path, inputs)
    asked = request(what, {"fc": INT4})
    lowered = OnnxRuntimeBackend().lower(asked, tmp_path / "out")
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    exact = 0.5 * inputs["x"] @ asked.weights["fc"].values.T + 2.0 * stored["fc.bias"]
    assert np.abs(answers(lowered, inputs)["y"] - exact).max() < 0.02 * np.abs(exact).max()


def test_an_int4_layer_is_a_float_layer_to_its_int8_neighbours(tmp_path: Path) -> None:
    path = transformer_block().save(tmp_path / "net.onnx", "logits")
    inputs = {"x": rows(ROWS, WIDTH)}
    what = subject(path, inputs)
    backend = OnnxRuntimeBackend()
    mixed = backend.lower(request(what, {"up": INT4, "head": INT8}), tmp_path / "mixed")
    assert {n: r.precision for n, r in executed(what, mixed).items()} == {
        "up": "int4", "head": "int8",
    }  # fmt: skip
    levels = {"up": INT4, "head": INT8}
    beside_float = {"up": Level.parse("dense:fp32"), "head": INT8}
    assert backend.conversions(what.graph, levels) == backend.conversions(what.graph, beside_float)
    found = answers(mixed, inputs)["logits"]
    plain = what.dense["logits"].astype(np.float32)
    assert np.abs(found - plain).max() < 0.25 * np.abs(plain).max()
    # and the same with the roles exchanged
    other = backend.lower(request(what, {"up": INT8, "head": INT4}), tmp_path / "other")
    assert {r.precision for r in executed(what, other).values()} == {"int4", "int8"}
    assert np.isfinite(answers(other, inputs)["logits"]).all()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Layer("stem", "n", "Conv", "x", "y", "w", (8, 32, 1, 1), None), "no 4-bit Conv"),
        (Layer("fc", "n", "MatMul", "x", "y", "w", (48, 8), None), "its 48 weights per output"),
    ],
)
def test_what_has_no_4_bit_kernel_is_refused_by_name(layer: Layer, reason: str) -> None:
    found = OnnxRuntimeBackend().capability(layer, INT4, Target())
    assert not found.runs
    assert found.reason.startswith(f"{layer.name}: ")
    assert reason in found.reason


def test_a_product_in_whole_blocks_may_win() -> None:
    layer = Layer("fc", "n", "MatMul", "x", "y", "w", (64, 8), None)
    assert OnnxRuntimeBackend().capability(layer, INT4, Target()).can_win
    sparse = OnnxRuntimeBackend().capability(layer, Level.parse("2:4:int4"), Target())
    assert not sparse.runs
    assert "2:4:int4" in sparse.reason


def test_a_weight_with_a_step_per_channel_is_not_taken(tmp_path: Path) -> None:
    path = transformer_block().save(tmp_path / "net.onnx", "logits")
    what = subject(path, {"x": rows(ROWS, WIDTH)})
    asked = request(what, {"up": INT4})
    made = weight_at(what.graph, what.graph.layer("up"), INT8)
    asked.weights["up"] = made  # type: ignore[index]
    with pytest.raises(CompileError, match=r"up: its weight has no integers in blocks of 32"):
        OnnxRuntimeBackend().lower(asked, tmp_path / "out")


def test_plain_int8_is_still_int8(tmp_path: Path) -> None:
    path = transformer_block().save(tmp_path / "net.onnx", "logits")
    what = subject(path, {"x": rows(ROWS, WIDTH)})
    runs = executed(what, lower(what, ["up", "head"], tmp_path / "out"))
    assert {r.precision for r in runs.values()} == {"int8"}
