"""A simulated device: what its lane counts, and that nobody can take its answers for measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import workers.lanes
from autosparse.artifacts.manifest import read_manifest
from autosparse.cli.main import run
from autosparse.errors import ConfigError
from autosparse.evaluation import LoweredModel, Target, TimingSettings, Verdict
from autosparse.evaluation.simulation import Device, Sparsity
from autosparse.levels import Level, Precision
from autosparse.model_graph.cost import layer_costs
from autosparse.pipeline.workspace import Workspace
from backends.kernels.support import why_no_kernels
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.fakes.fake_backend import FakeBackend, Planted
from tests.faults.real_job import RealJob
from tests.lowering import Subject, request
from workers.simulated_lane import SimulatedLane

needs_kernels = pytest.mark.skipif(bool(why_no_kernels()), reason="no kernels can be built here")
ALL = "unstructured@0.9:fp32"


def lowered(what: Subject, level: str, directory: Path) -> LoweredModel:
    backend, parsed = OnnxRuntimeBackend(), Level.parse(level)
    able = [la.name for la in what.graph.layers if backend.capability(la, parsed, Target()).can_win]
    chosen = {} if parsed.is_baseline else dict.fromkeys(able, parsed)
    return backend.lower(request(what, chosen), directory)


@pytest.fixture
def inputs(residual: Subject, tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, **{name: rows[:1] for name, rows in residual.inputs.items()})  # type: ignore[arg-type]
    return path


@needs_kernels
@pytest.mark.parametrize(
    ("level", "pattern"),
    [
        ("dense:int8", "dense"),
        (ALL, "unstructured"),
        ("block1x4@0.5:int8", "block"),
        ("2:4:int8", "nm"),
        ("dense:bf16", "unstructured"),  # its kernel is the one that skips single weights
        ("block1x4@0.5:bf16", "unstructured"),
    ],
)
def test_multiplications_are_those_of_the_layers(
    level: str, pattern: str, residual: Subject, tmp_path: Path
) -> None:
    backend, parsed = OnnxRuntimeBackend(), Level.parse(level)
    model = lowered(residual, level, tmp_path)
    one = {name: rows[:1] for name, rows in residual.inputs.items()}
    work = {node.node: node for node in backend.node_work(model, one)}
    costs = layer_costs(residual.graph, {"image": (1, 3, 8, 8)})
    executed = backend.executed_layers(model, residual.graph)
    at_level = 0
    for layer in residual.graph.layers:
        node, macs = work[executed[layer.name].node], costs[layer.name].macs
        assert macs is not None
        if not backend.capability(layer, parsed, Target()).can_win:
            continue
        at_level += 1
        assert node.dense_macs == macs, layer.name
        assert node.precision == ("int8" if parsed.precision is Precision.INT8 else "fp32")
        assert node.pattern == pattern, layer.name
        if parsed.sparsity:
            assert node.kept_macs == pytest.approx(macs * (1 - parsed.sparsity), rel=0.15)
        else:
            assert node.kept_macs == macs
    # of seven layers, one is a matrix product, which bf16 is for
    assert at_level >= (1 if parsed.precision is Precision.BF16 else 5)


def test_equal_files_take_equal_time_and_threads_help(
    residual: Subject, tmp_path: Path, inputs: Path
) -> None:
    device = Device.load("galaxy-a54")
    model = lowered(residual, "dense:fp32", tmp_path / "model")
    with SimulatedLane(device, OnnxRuntimeBackend()) as lane:
        found = lane.measure(
            {"a": model, "b": model}, inputs, Target(name="SIMULATED x"), TimingSettings(rounds=4)
        )
        four = lane.measure({"a": model}, inputs, Target(threads=4), TimingSettings(rounds=4))
        nodes = lane.profile(model, inputs, Target(), runs=1)
    one = found["a"].percentile_seconds("p50")
    assert (
        one == found["b"].percentile_seconds("p95") == pytest.approx(sum(n.seconds for n in nodes))
    )
    assert four["a"].percentile_seconds("p50") < one
    assert found["a"].environment == device.environment.id
    assert found["a"].target == "SIMULATED x"


def test_a_backend_that_cannot_tell_its_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be simulated"):
        SimulatedLane(Device.load("s4"), FakeBackend(Planted(lambda n, lv: 1.0, lambda lv: 0.0)))


@needs_kernels
def test_zeros_pay_on_a_device_for_zeros_only(
    residual: Subject, tmp_path: Path, inputs: Path
) -> None:
    """The seed's claim, for its descriptor against the same device without the multiplier."""
    s4 = Device.load("s4").model_copy(update={"node_seconds": 0.0, "ghz": 1e-4})
    dense_only = s4.model_copy(update={"sparsity": Sparsity()})
    sparse, dense = (
        lowered(residual, level, tmp_path / level.replace(":", "-"))
        for level in (ALL, "dense:fp32")
    )

    def ratio(device: Device) -> float:
        with SimulatedLane(device, OnnxRuntimeBackend()) as lane:
            took = lane.measure(
                {"sparse": sparse, "dense": dense}, inputs, Target(), TimingSettings()
            )
        return took["sparse"].percentile_seconds("p50") / took["dense"].percentile_seconds("p50")

    # what runs densely here is padded to whole registers, and a little larger for that
    assert ratio(s4) < 0.25 < 0.5 < ratio(dense_only)


def test_a_whole_job_says_simulated_wherever_it_speaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = RealJob.make(tmp_path)
    flags = job.argv("--target", "sim://raspberry-pi-5", "--trials", "3")[1:]
    assert run(flags) == Verdict.SIMULATED.exit_code == 4
    told = capsys.readouterr()
    assert told.out.startswith("SIMULATED, NOT MEASURED: ")
    assert "SIMULATED: nothing is measured" in told.err
    bundle = Workspace(job.output).bundle
    manifest = read_manifest(bundle)
    assert manifest.verdict is Verdict.SIMULATED
    assert manifest.simulated
    assert manifest.target.name == "SIMULATED raspberry-pi-5"
    assert manifest.target.architecture == "aarch64"
    environment = json.loads((bundle / "environment.json").read_text())
    assert environment["cpu"].startswith("SIMULATED: Raspberry Pi 5")
    page = (bundle / "report.html").read_text()
    assert "<title>SIMULATED: " in page
    assert "Every latency in this report is SIMULATED" in page
    assert run(["verify", str(bundle)]) == 4
    assert capsys.readouterr().out.startswith("SIMULATED, NOT MEASURED: HOLDS")
    assert run(["verify", str(bundle), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["simulated"] is True
    exported = tmp_path / "ort"
    assert run(["export", str(bundle), "--output-dir", str(exported)]) == 0
    assert {path.name for path in exported.iterdir()} == {"model.ort"}


def test_an_unknown_device_is_told_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="known are galaxy-a13, "):
        workers.lanes.lane_of(Target(address="sim://pixel-99"), print)
