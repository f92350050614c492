"""What an artifact answers is what ONNX Runtime answers for the same recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import CompileError, MeasurementError
from autosparse.evaluation import LoweredModel, LoweringRequest, Target
from autosparse.evaluation.backend import Runner
from autosparse.levels import BASELINE, Level
from backends.onnxruntime_backend import OnnxRuntimeBackend
from backends.tvm_artifact.lowering import CONSTANT, artifact_graph
from backends.tvm_artifact.runner import ArtifactRunner
from backends.tvm_backend import TvmBackend
from tests.lowering import Subject, request, subject
from tests.models import Array, Floats, Net, images

SPARSE, INT8 = Level.parse("unstructured@0.9:fp32"), Level.parse("dense:int8")
BLOCKS = Level.parse("block1x4@0.75:int8")


def opened(model: LoweredModel) -> ArtifactRunner:
    runner = TvmBackend().open(model, threads=1)
    assert isinstance(runner, ArtifactRunner)
    return runner


def answer(runner: Runner, inputs: Mapping[str, Array], name: str) -> Floats:
    return np.asarray(runner.run(inputs)[name], np.float32)


def calls(runner: Runner, inputs: Mapping[str, Array]) -> list[str]:
    """Functions that one inference calls, in order."""
    assert isinstance(runner, ArtifactRunner)
    told: list[str] = []
    runner.watch(lambda name, before, _: told.append(name) if before else None)
    runner.run(inputs)
    return told


def chosen(what: Subject, level: Level) -> LoweringRequest:
    """The level for every layer that takes it, the dense one of its precision for the others."""
    backend, levels = TvmBackend(), {}
    for layer in what.graph.layers:
        wishes = (level, INT8) if level.precision == INT8.precision else (level,)
        taken = [w for w in wishes if backend.capability(layer, w, Target()).can_win]
        levels[layer.name] = (taken or [BASELINE])[0]
    return request(what, levels)


@pytest.mark.parametrize("level", [BASELINE, SPARSE, INT8, BLOCKS], ids=str)
def test_every_layer_runs_on_our_kernels_and_answers_agree(
    level: Level, residual: Subject, tmp_path: Path
) -> None:
    asked = chosen(residual, level)
    runner = opened(TvmBackend().lower(asked, tmp_path / "tvm"))
    theirs = OnnxRuntimeBackend().open(
        OnnxRuntimeBackend().lower(asked, tmp_path / "ort"), threads=1
    )
    for rows in (1, 3):  # one library for every batch
        inputs = {"image": images(rows)}
        expected = answer(theirs, inputs, "logits")
        # integers may be rounded to the other side of a step
        close = 0.05 * np.abs(expected).max() if level.precision == INT8.precision else 1e-4
        found = answer(runner, inputs, "logits")
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=close)
    ran = calls(runner, {"image": images(1)})
    ours = [name for name in ran if name.startswith(("autosparse_linear", "autosparse_conv"))]
    assert len(ours) == len(residual.graph.layers)
    assert not any("conv2d" in name or "matmul" in name for name in set(ran) - set(ours))
    if level == INT8:  # two blocks end in a sum that layers read as integers
        assert "autosparse_add_uint8" in ran
        assert "autosparse_quantize" in ran
        assert not any(name.startswith("quantize") for name in ran)
    integer = sum(name.endswith("int8") for name in ours)
    assert integer == sum(
        asked.recipe.levels[la.name].precision == INT8.precision for la in residual.graph.layers
    )


def attention() -> Net:
    """A mask, two products of tensors, a softmax, a norm and a layer on each side."""
    net = Net()
    x = net.input("x", "batch", "sequence", 8)
    mask = net.input("mask", "batch", 1, "sequence")
    query = net.node("MatMul", x, net.weight("q.weight", 8, 8), name="q")
    key = net.node("MatMul", x, net.weight("k.weight", 8, 8), name="k")
    turned = net.node("Transpose", key, perm=[0, 2, 1])
    scores = net.node("Add", net.node("MatMul", query, turned), mask)
    mixed = net.node("MatMul", net.node("Softmax", scores, axis=-1), x)
    out = net.node("MatMul", mixed, net.weight("o.weight", 8, 8), name="o")
    added = net.node("Add", out, x)
    scale, shift = net.weight("norm.scale", 8), net.weight("norm.shift", 8)
    net.node("LayerNormalization", added, scale, shift, to="y", axis=-1)
    return net


@pytest.fixture(scope="module")
def attention_subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    path = attention().save(tmp_path_factory.mktemp("attention") / "attention.onnx", "y")
    return subject(path, attention_inputs(2, 5))


def attention_inputs(batch: int, sequence: int) -> dict[str, Array]:
    random = np.random.default_rng(batch)
    x = random.standard_normal((batch, sequence, 8)).astype(np.float32)
    mask = np.where(random.random((batch, 1, sequence)) < 0.3, -1e9, 0).astype(np.float32)
    return {"x": x, "mask": mask}


def test_attention_runs_on_our_kernels_at_any_length(
    attention_subject: Subject, tmp_path: Path
) -> None:
    plain = request(attention_subject, {})
    shapes = {"x": (1, 6, 8), "mask": (1, 1, 6)}
    runner = opened(TvmBackend().lower(replace(plain, input_shapes=shapes), tmp_path / "tvm"))
    assert runner.description.fixed_sizes == {"batch": 1, "sequence": 6}
    dense = OnnxRuntimeBackend().lower(plain, tmp_path / "ort")
    theirs = OnnxRuntimeBackend().open(dense, threads=1)
    for batch, sequence in ((1, 1), (1, 6), (2, 5), (3, 70)):
        inputs = attention_inputs(batch, sequence)
        expected = answer(theirs, inputs, "y")
        found = answer(runner, inputs, "y")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for sequence in (6, 7):
        ran = calls(runner, attention_inputs(1, sequence))
        assert ran.count("autosparse_linear_fp32") == 3
        assert ran.count("autosparse_matmul") == 2
        assert ran.count("autosparse_softmax") == 1
        # nothing is computed about sizes where they are the target's
        assert ("vm.builtin.make_shape" in ran) == (sequence != 6)
    wrong = {"x": np.zeros((2, 4, 8), np.float32), "mask": np.zeros((2, 1, 3), np.float32)}
    with pytest.raises(MeasurementError, match="mask"):
        runner.run(wrong)


def test_recipes_that_differ_in_weights_alone_share_their_code(
    residual: Subject, tmp_path: Path
) -> None:
    backend = TvmBackend()
    dense = backend.lower(request(residual, {}), tmp_path / "dense")
    sparse = backend.lower(chosen(residual, SPARSE), tmp_path / "sparse")
    libraries = [model.library_path for model in (dense, sparse)]
    assert all(libraries)
    assert libraries[0].read_bytes() == libraries[1].read_bytes()  # type: ignore[union-attr]
    assert sparse.path.stat().st_size < dense.path.stat().st_size


def test_threads_change_nothing(residual: Subject, tmp_path: Path) -> None:
    lowered = TvmBackend().lower(request(residual, {}), tmp_path)
    one, two = (TvmBackend().open(lowered, threads=n).run(residual.inputs) for n in (1, 2))
    np.testing.assert_array_equal(one["logits"], two["logits"])


def test_layers_that_the_int8_kernels_cannot_read_are_named(
    residual: Subject, tmp_path: Path
) -> None:
    stem = residual.graph.layer("stem")
    found = TvmBackend().capability(stem, INT8, Target())
    assert not found.runs
    assert "it has 3" in found.reason
    with pytest.raises(CompileError, match="stem"):
        TvmBackend().lower(request(residual, {"stem": INT8}), tmp_path)


def test_convolutions_that_are_no_images_are_left_to_tvm(tmp_path: Path) -> None:
    net = Net()
    signal = net.input("signal", "batch", 4, 16)
    weight = net.weight("filter.weight", 6, 4, 3)
    net.node("Conv", signal, weight, name="filter", to="y", kernel_shape=[3], pads=[1, 1])
    random = np.random.default_rng(0).standard_normal((2, 4, 16)).astype(np.float32)
    what = subject(net.save(tmp_path / "signal.onnx", "y"), {"signal": random})
    graph = artifact_graph(request(what, {}))
    assert [node.op_type for node in graph.model.graph if node.op_type != CONSTANT] == ["Conv"]
    assert len(graph.constants) == 1
    with pytest.raises(CompileError, match="filter"):
        artifact_graph(request(what, {"filter": SPARSE}))


def test_a_candidate_at_the_path_of_one_that_is_open_is_itself(
    residual: Subject, tmp_path: Path
) -> None:
    """Candidates replace each other in one directory; the system's loader goes by names."""
    backend = TvmBackend()
    layers = [layer.name for layer in residual.graph.layers if layer.name != "stem"]
    dense = backend.lower(request(residual, {}), tmp_path / "same")
    still_open = backend.open(dense, threads=1)
    integer = backend.lower(request(residual, dict.fromkeys(layers, INT8)), tmp_path / "same")
    answers = backend.open(integer, threads=1).run(residual.inputs)
    alone = backend.lower(request(residual, dict.fromkeys(layers, INT8)), tmp_path / "alone")
    expected = backend.open(alone, threads=1).run(residual.inputs)
    for name, answer in answers.items():
        assert np.array_equal(answer, expected[name])
        assert np.allclose(still_open.run(residual.inputs)[name], residual.dense[name], atol=1e-4)
