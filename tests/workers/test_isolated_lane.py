"""The isolated lane, with a real child process: what it measures, and what it survives."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from autosparse.errors import MeasurementError
from autosparse.evaluation import (
    Comparison,
    LoweredModel,
    Measurement,
    Target,
    TimingSettings,
    read_environment,
)
from autosparse.evaluation.measurement import CanaryReading
from autosparse.evaluation.quiet_state import QuietState
from tests.models import Net, images
from workers.isolated_lane import IsolatedLane
from workers.measuring_cores import MeasuringCores, last_cores
from workers.quiet_memory import QuietMemory

QUICK = TimingSettings(rounds=3, block_seconds=1e-4, warmup_runs=1, max_seconds=2.0)
TARGET = Target(name="bench", input_shapes={"image": (2, 3, 8, 8)})


@pytest.fixture(scope="module")
def lane() -> Iterator[IsolatedLane]:
    with IsolatedLane() as opened:
        yield opened


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "inputs.npz"
    np.savez(path, image=images(2))
    return path


@pytest.fixture
def model(residual_model: Path) -> LoweredModel:
    return LoweredModel(residual_model.parent, residual_model.name)


def children() -> list[psutil.Process]:
    """Measuring processes of this process."""
    found = psutil.Process().children()
    return [child for child in found if any("measure_process" in a for a in child.cmdline())]


def measure(lane: IsolatedLane, model: LoweredModel, inputs: Path, **more: bool) -> Measurement:
    return lane.measure({"one": model}, inputs, TARGET, QUICK, **more)["one"]


def test_two_files_are_measured_in_one_run(
    lane: IsolatedLane, model: LoweredModel, inputs: Path
) -> None:
    found = lane.measure({"baseline": model, "candidate": model}, inputs, TARGET, QUICK)
    assert list(found) == ["baseline", "candidate"]
    for label, measurement in found.items():
        assert measurement.label == label
        assert measurement.file_sha256 == model.sha256()
        assert measurement.target == "bench"
        assert measurement.environment == read_environment().id
        assert measurement.warmup_runs == QUICK.warmup_runs
        for block in measurement.blocks:
            assert len(block.samples_seconds) >= 3
            assert all(seconds > 0 for seconds in block.samples_seconds)
    # the k-th blocks belong to the same round: they can be compared
    pair = Comparison(baseline=found["baseline"], candidate=found["candidate"])
    assert len(pair.baseline.blocks) == len(pair.candidate.blocks) >= 1


def test_the_child_is_kept_unless_a_fresh_one_is_asked_for(
    lane: IsolatedLane, model: LoweredModel, inputs: Path
) -> None:
    measure(lane, model, inputs)
    (first,) = children()
    measure(lane, model, inputs)
    (second,) = children()
    measure(lane, model, inputs, fresh=True)
    (third,) = children()
    assert first.pid == second.pid != third.pid
    assert not psutil.pid_exists(first.pid)


def test_a_process_tells_what_it_saw_and_is_held_to_what_others_saw(
    model: LoweredModel, inputs: Path
) -> None:
    memory, short = QuietMemory(), QUICK.model_copy(update={"max_seconds": 0.01})
    with IsolatedLane(memory) as lane:
        lane.measure({"one": model}, inputs, TARGET, short)
        quiet = memory.state(lane.environment(), TARGET.threads)
        assert quiet is not None
        assert list(quiet.cores) == sorted(os.sched_getaffinity(newest_child().pid))
        # where it was a thousand times faster before, it is throttled now
        best = CanaryReading.of(seconds / 1000 for seconds in quiet.best.seconds)
        memory.add(lane.environment(), TARGET.threads, QuietState(best=best, cores=quiet.cores))
        measured = lane.measure({"one": model}, inputs, TARGET, short)["one"]
    assert len(measured.blocks) >= 3
    assert all(block.slowdown > 100 and not block.accepted for block in measured.blocks)


def test_every_node_is_profiled(lane: IsolatedLane, model: LoweredModel, inputs: Path) -> None:
    nodes = lane.profile(model, inputs, TARGET, runs=3)
    operators = [node.operator for node in nodes]
    assert "Gemm" in operators
    assert sum(operator in ("Conv", "FusedConv") for operator in operators) == 6
    assert all(node.seconds >= 0 for node in nodes)


@pytest.mark.parametrize("content", [None, b"", b"no model"], ids=["gone", "empty", "text"])
def test_a_file_that_does_not_open_fails_alone(
    lane: IsolatedLane, model: LoweredModel, inputs: Path, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "broken.onnx").write_bytes(content)
    broken = LoweredModel(tmp_path, "broken.onnx")
    with pytest.raises(MeasurementError, match=r"cannot open broken\.onnx"):
        lane.measure({"baseline": model, "broken": broken}, inputs, TARGET, QUICK)
    assert measure(lane, model, inputs).blocks


def test_a_measurement_waits_for_that_of_another_job(
    model: LoweredModel, inputs: Path, tmp_path: Path
) -> None:
    """Nothing of it has begun meanwhile, and its time has not either."""
    waits = threading.Event()
    found: list[Measurement] = []

    def wait() -> None:
        with IsolatedLane(cores=MeasuringCores(tmp_path, lambda text: waits.set())) as lane:
            found.append(measure(lane, model, inputs))

    thread = threading.Thread(target=wait)
    before = children()
    with MeasuringCores(tmp_path, print).held(last_cores(os.sched_getaffinity(0), TARGET.threads)):
        thread.start()
        assert waits.wait(20)
        assert children() == before
    thread.join(timeout=60)
    assert found[0].blocks


def test_inputs_that_do_not_fit_fail_alone(
    lane: IsolatedLane, model: LoweredModel, inputs: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, image=images(2)[:, :1])
    with pytest.raises(MeasurementError, match="ONNX Runtime failed"):
        measure(lane, model, wrong)
    with pytest.raises(MeasurementError, match="the measuring process ended with code 1"):
        measure(lane, model, tmp_path / "gone.npz")
    assert measure(lane, model, inputs).blocks


def test_a_child_that_is_killed_while_it_measures_fails_alone(
    model: LoweredModel, inputs: Path
) -> None:
    endless = TimingSettings(rounds=10_000, block_seconds=0.01, max_seconds=60.0)
    with IsolatedLane() as lane:
        measure(lane, model, inputs)
        child = newest_child()

        def kill_once_it_works() -> None:
            before = child.cpu_times().user
            while child.cpu_times().user < before + 0.05:
                time.sleep(0.01)
            child.kill()

        killer = threading.Thread(target=kill_once_it_works)
        killer.start()
        with pytest.raises(MeasurementError, match="was killed by signal 9") as caught:
            lane.measure({"one": model}, inputs, TARGET, endless)
        killer.join()
        assert caught.value.retryable
        assert measure(lane, model, inputs).blocks


def test_memory_is_what_a_file_adds_whichever_was_opened_first(
    lane: IsolatedLane, tmp_path: Path
) -> None:
    files = {}
    for name, width in (("small", 16), ("large", 16_384)):
        net = Net(seed=1)
        weight = net.weight(f"{name}.weight", 256, width)
        net.node("Gemm", net.input("x", "batch", 256), weight, to="y")
        net.save(tmp_path / f"{name}.onnx", "y")
        files[name] = LoweredModel(tmp_path, f"{name}.onnx")
    rows = tmp_path / "x.npz"
    np.savez(rows, x=np.ones((1, 256), dtype=np.float32))
    target = Target(input_shapes={"x": (1, 256)})
    for order, fresh in ((("large", "small"), True), (("small", "large"), False)):
        asked = {name: files[name] for name in order}
        found = lane.measure(asked, rows, target, QUICK, fresh=fresh)
        small, large = (found[name].peak_memory_bytes for name in ("small", "large"))
        assert small is not None
        assert large is not None
        assert small < 4 << 20
        assert 16 << 20 <= large <= 100 << 20


def newest_child() -> psutil.Process:
    return max(children(), key=lambda child: child.create_time())


def test_a_child_that_was_killed_in_between_is_noticed(model: LoweredModel, inputs: Path) -> None:
    with IsolatedLane() as lane:
        measure(lane, model, inputs)
        child = newest_child()
        child.kill()
        while child.status() != psutil.STATUS_ZOMBIE:  # only then does its pipe refuse a request
            time.sleep(0.01)
        with pytest.raises(MeasurementError, match="killed by signal 9"):
            measure(lane, model, inputs)
        assert measure(lane, model, inputs).blocks


def test_closing_ends_the_child_and_may_be_repeated(model: LoweredModel, inputs: Path) -> None:
    lane = IsolatedLane()
    lane.close()
    measure(lane, model, inputs)
    pid = newest_child().pid
    lane.close()
    lane.close()
    assert not psutil.pid_exists(pid)
    assert measure(lane, model, inputs).blocks
    lane.close()


def test_the_child_is_pinned_to_as_many_cores_as_the_target_has_threads(
    model: LoweredModel, inputs: Path
) -> None:
    available = sorted(os.sched_getaffinity(0))
    with IsolatedLane() as lane:
        for threads in (1, 2, 1):
            target = TARGET.model_copy(update={"threads": threads})
            lane.measure({"one": model}, inputs, target, QUICK)
            assert sorted(os.sched_getaffinity(newest_child().pid)) == available[-threads:]
    assert sorted(os.sched_getaffinity(0)) == available


def test_what_measures_holds_no_training_library_and_no_compiler(
    model: LoweredModel, inputs: Path
) -> None:
    """They would take memory and caches from what is timed."""
    with IsolatedLane() as lane:
        measure(lane, model, inputs)
        mapped = {Path(found.path).parts for found in newest_child().memory_maps()}
    assert any("onnxruntime" in parts for parts in mapped)
    assert not [parts for parts in mapped if {"torch", "tvm", "ray"} & set(parts)]


_FROM_A_HOSTILE_DIRECTORY = """
import sys
from pathlib import Path
from autosparse.evaluation import LoweredModel, Target, TimingSettings
from workers.isolated_lane import IsolatedLane

model = Path(sys.argv[1])
settings = TimingSettings(rounds=3, block_seconds=1e-4, warmup_runs=1, max_seconds=2.0)
target = Target(input_shapes={"image": (2, 3, 8, 8)})
with IsolatedLane() as lane:
    files = {"one": LoweredModel(Path("models"), model.name)}
    found = lane.measure(files, Path("inputs.npz"), target, settings)
print(len(found["one"].blocks))
"""


def test_it_runs_where_folders_of_the_user_have_our_names(
    tmp_path: Path, model: LoweredModel, inputs: Path
) -> None:
    """And finds the user's relative paths, although the child works elsewhere."""
    for name in ("api", "workers", "backends", "search_spaces", "autosparse", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the user's {name}')\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / model.entry).write_bytes(model.path.read_bytes())
    (tmp_path / "inputs.npz").write_bytes(inputs.read_bytes())
    (tmp_path / "models" / model.entry).chmod(0o444)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _FROM_A_HOSTILE_DIRECTORY, model.entry],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
