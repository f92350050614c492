"""Artifacts on a simulated device: what their functions do is counted, layer by layer."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from autosparse.artifacts.manifest import read_manifest
from autosparse.artifacts.tvm_snippets import PYTHON_FILE
from autosparse.cli.main import run
from autosparse.errors import ConfigError
from autosparse.evaluation import LoweredModel, Target, TimingSettings, Verdict
from autosparse.evaluation.simulation import Device
from autosparse.levels import Level, Precision
from autosparse.model_graph.cost import layer_costs
from autosparse.pipeline.workspace import Workspace
from backends.tvm_backend import TvmBackend
from tests.faults.real_job import RealJob
from tests.lowering import Subject, request, subject
from tests.models import Array, Net, images
from tests.tvm_artifact.test_answers import attention, attention_inputs
from workers.simulated_lane import SimulatedLane

ALL, DENSE = "unstructured@0.9:fp32", "dense:fp32"
ONE = {"image": images(1)}


def lowered(what: Subject, level: str, directory: Path) -> LoweredModel:
    """With the level for every layer that can win by it."""
    backend, wanted = TvmBackend(), Level.parse(level)
    able = [la.name for la in what.graph.layers if backend.capability(la, wanted, Target()).can_win]
    return backend.lower(request(what, dict.fromkeys(able, wanted)), directory)


@pytest.mark.parametrize(
    ("level", "pattern"),
    [
        (ALL, "unstructured"),
        pytest.param(DENSE, "dense", marks=pytest.mark.slow),
        pytest.param("dense:int8", "dense", marks=pytest.mark.slow),
        pytest.param("block1x4@0.5:int8", "block", marks=pytest.mark.slow),
        pytest.param("2:4:int8", "nm", marks=pytest.mark.slow),
    ],
)
def test_multiplications_are_those_of_the_layers(
    level: str, pattern: str, residual: Subject, tmp_path: Path
) -> None:
    backend, wanted = TvmBackend(), Level.parse(level)
    model = lowered(residual, level, tmp_path)
    found = backend.node_work(model, ONE)
    work = {node.node: node for node in found}
    costs = layer_costs(residual.graph, {"image": (1, 3, 8, 8)})
    at_level = 0
    for layer in residual.graph.layers:
        node, macs = work[layer.node], costs[layer.name].macs
        assert node.dense_macs == macs, layer.name
        if not backend.capability(layer, wanted, Target()).can_win:
            continue
        at_level += 1
        assert macs is not None
        assert node.pattern == pattern
        assert node.precision == wanted.precision.value
        assert node.kept_macs == pytest.approx(macs * (1 - wanted.sparsity), rel=0.15)
        kept = layer.parameters * (1 - wanted.sparsity)
        item = 1 if wanted.precision is Precision.INT8 else 4
        # steps, biases, and of zeros a gap to each run
        most = (item + 1) * kept * 1.15 + 8 * layer.output_channels
        assert 0.9 * item * kept <= node.weight_bytes <= most
    assert at_level >= 5
    # what is added and pooled between the layers moves numbers, and a view of a constant none
    others = [node for node in found if node.node not in {la.node for la in residual.graph.layers}]
    assert others
    assert all(node.dense_macs == 0 < node.activation_bytes for node in others)
    assert not any(node.operator.startswith("vm.") for node in others)


def test_bytes_are_those_of_what_goes_in_and_out(residual: Subject, tmp_path: Path) -> None:
    work = {
        node.node: node for node in TvmBackend().node_work(lowered(residual, ALL, tmp_path), ONE)
    }
    stem = residual.graph.layer("stem")
    assert work[stem.node].activation_bytes == 4 * (3 * 8 * 8 + stem.output_channels * 8 * 8)


@pytest.mark.slow
def test_products_of_tensors_are_counted(tmp_path: Path) -> None:
    what = subject(attention().save(tmp_path / "attention.onnx", "y"), attention_inputs(2, 5))
    model = TvmBackend().lower(request(what, {}), tmp_path / "artifact")
    products = [
        node.dense_macs
        for node in TvmBackend().node_work(model, attention_inputs(2, 5))
        if node.operator == "autosparse_matmul"
    ]
    assert products == [2 * 5 * 5 * 8] * 2


@pytest.mark.slow
def test_threads_help_and_zeros_pay(residual: Subject, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, **ONE)  # type: ignore[arg-type]
    files = {level: lowered(residual, level, tmp_path / level.replace(":", "-"))
             for level in (ALL, DENSE)}  # fmt: skip
    device = Device.load("raspberry-pi-5").model_copy(update={"node_seconds": 0.0})
    with SimulatedLane(device, TvmBackend()) as lane:
        one = lane.measure(files, inputs, Target(backend="tvm"), TimingSettings())
        four = lane.measure(files, inputs, Target(backend="tvm", threads=4), TimingSettings())
    for level in files:
        assert four[level].percentile_seconds("p50") < one[level].percentile_seconds("p50")
    assert one[ALL].percentile_seconds("p50") < one[DENSE].percentile_seconds("p50")


@pytest.mark.slow
def test_loops_that_the_compiler_writes_are_refused(tmp_path: Path) -> None:
    net = Net()
    signal = net.input("signal", "batch", 4, 16)
    heard = net.node("Conv", signal, net.weight("filter.weight", 6, 4, 3), name="filter",
                     kernel_shape=[3], pads=[1, 1])  # fmt: skip
    net.node("Relu", heard, to="y")
    given: dict[str, Array] = {"signal": np.ones((2, 4, 16), np.float32)}
    what = subject(net.save(tmp_path / "signal.onnx", "y"), given)
    model = TvmBackend().lower(request(what, {}), tmp_path / "artifact")
    with pytest.raises(ConfigError, match=r"conv.* cannot be simulated"):
        TvmBackend().node_work(model, given)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the device is one of x86")
def test_a_whole_job_is_simulated_with_artifacts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = RealJob.make(tmp_path)
    flags = job.argv("--target", "sim://zen5", "--backend", "tvm", "--trials", "3")[1:]
    assert run(flags) == Verdict.SIMULATED.exit_code
    assert capsys.readouterr().out.startswith("SIMULATED, NOT MEASURED: ")
    bundle = Workspace(job.output).bundle
    manifest = read_manifest(bundle)
    assert (manifest.verdict, manifest.target.backend) == (Verdict.SIMULATED, "tvm")
    if not manifest.stands_in:
        assert manifest.runtime.keys() == {"apache-tvm", "apache-tvm-ffi"}
        needed = f"apache-tvm=={manifest.runtime['apache-tvm']}"
        assert needed in (bundle / PYTHON_FILE).read_text(encoding="utf-8")
    assert run(["verify", str(bundle)]) == Verdict.SIMULATED.exit_code
