"""The files that are compared: the same numbers with and without our kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.evaluation import LoweredModel
from autosparse.evaluation.backend import ExecutedLayer
from autosparse.levels import BASELINE, Level
from backends.kernels.support import why_no_kernels
from backends.onnxruntime_backend import OnnxRuntimeBackend
from benchmarks.kernel_shapes import ConvShape, LayerShape, LinearShape
from benchmarks.kernels import random_inputs, write_files
from benchmarks.random_networks import linear_model
from benchmarks.sparse_files import Workload
from benchmarks.whole_models import describe_executed
from tests.models import Floats, Net

SHAPE = LinearShape(32, 16)

needs_kernels = pytest.mark.skipif(bool(why_no_kernels()), reason=why_no_kernels())


def answer(model: LoweredModel, x: Floats) -> Floats:
    (values,) = OnnxRuntimeBackend().open(model, threads=1).run({"x": x}).values()
    return np.asarray(values, np.float32)


@pytest.fixture
def work(tmp_path: Path) -> Workload:
    path = linear_model(SHAPE, tmp_path / "dense" / "model.onnx")
    return Workload.load(path, random_inputs(SHAPE, 4))


@needs_kernels
@pytest.mark.parametrize(
    ("shape", "kind", "levels"), [(SHAPE, "linear", 10), (ConvShape(8, 8, 3, 6), "conv", 10)]
)
def test_every_sparse_file_has_a_kernel(
    shape: LayerShape, kind: str, levels: int, tmp_path: Path
) -> None:
    files = write_files(shape, kind, tmp_path, ("deepsparse", "openvino"))
    assert len(files.lowered) == levels
    assert not files.without_kernel
    assert len({file.directory for file in files.lowered.values()}) == levels
    assert {one.engine for one in files.challenges} == {"deepsparse", "openvino"}
    assert not any(one.file.library for one in files.challenges)


@needs_kernels
def test_what_has_no_kernel_is_taken_out(tmp_path: Path) -> None:
    files = write_files(SHAPE, "linear", tmp_path, ("deepsparse",))
    fewer = files.without(["unstructured@0.90:fp32"])
    assert "unstructured@0.90:fp32" not in fewer.lowered
    assert len(fewer.challenges) == 2


@needs_kernels
def test_other_engines_get_the_same_fp32_numbers(work: Workload, tmp_path: Path) -> None:
    levels = {work.graph.layers[0].name: Level.parse("unstructured@0.90:fp32")}
    ours, stock = work.lower(levels, tmp_path / "ours"), tmp_path / "stock" / "model.onnx"
    x = np.asarray(random_inputs(SHAPE, 4)["x"], np.float32)
    expected = answer(work.write_fp32(levels, stock), x)
    np.testing.assert_allclose(answer(ours, x), expected, rtol=1e-5, atol=1e-5)


@needs_kernels
def test_other_engines_get_the_same_integers(work: Workload, tmp_path: Path) -> None:
    levels = {work.graph.layers[0].name: Level.parse("block1x4@0.50:int8")}
    ours = work.lower(levels, tmp_path / "ours")
    stock = work.lower_without_kernels(levels, tmp_path / "stock")
    assert (bool(ours.library), bool(stock.library)) == (True, False)
    x = np.asarray(random_inputs(SHAPE, 4)["x"], np.float32)
    np.testing.assert_allclose(answer(ours, x), answer(stock, x), rtol=1e-4, atol=1e-4)


@needs_kernels
def test_the_layer_that_reads_the_image_stays_dense(tmp_path: Path) -> None:
    net = Net()
    image = net.input("image", "batch", 3, 8, 8)
    inner = net.conv(net.node("Relu", net.conv(image, "stem", 3, 8)), "inner", 8, 8)
    path = net.save(tmp_path / "model.onnx", inner)
    work = Workload.load(path, {"image": np.ones((1, 3, 8, 8), np.float32)})
    level = Level.parse("unstructured@0.90:fp32")
    assert list(work.levels_at(level, BASELINE).values()) == [BASELINE, level]


def test_dense_layers_are_named() -> None:
    sparse = ExecutedLayer(kernel="SparseConv", precision="fp32", node="n", skips_zeros=True)
    dense = ExecutedLayer(kernel="Conv", precision="fp32", node="n")
    assert describe_executed({"a": sparse}) == "1 of 1 layers run as sparse kernels"
    said = describe_executed({"a": sparse, **{f"d{i}": dense for i in range(6)}})
    assert said.startswith("1 of 7 layers run as sparse kernels; dense: d0 (Conv), d1 (Conv)")
    assert said.endswith("and 2 more")
