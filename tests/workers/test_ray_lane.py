"""A lane on Ray: exclusive, pinned, and asked again when it was killed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from autosparse.errors import KilledError, MeasurementError
from autosparse.evaluation import LoweredModel, Target, TimingSettings, read_environment
from tests.models import images
from workers.measuring_cores import MeasuringCores, last_cores
from workers.quiet_memory import QuietMemory
from workers.ray_lane import RayLane
from workers.ray_session import RaySession

QUICK = TimingSettings(rounds=3, block_seconds=1e-4, warmup_runs=1, max_seconds=2.0)
ENDLESS = TimingSettings(rounds=10_000, block_seconds=0.01, max_seconds=60.0)
TARGET = Target(input_shapes={"image": (2, 3, 8, 8)})
MEMORY = QuietMemory()
TOLD: list[str] = []


@pytest.fixture(scope="module")
def session() -> Iterator[RaySession]:
    opened = RaySession(1, None)
    opened.prepare()
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("locks")


@pytest.fixture(scope="module")
def lane(session: RaySession, locks: Path) -> Iterator[RayLane]:
    with RayLane(session, MEMORY, MeasuringCores(locks, TOLD.append)) as opened:
        yield opened


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "inputs.npz"
    np.savez(path, image=images(2))
    return path


@pytest.fixture
def model(residual_model: Path) -> LoweredModel:
    return LoweredModel(residual_model.parent, residual_model.name)


def below(word: str) -> list[psutil.Process]:
    """Processes of ours whose command line holds a word."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if any(word in part for part in p.cmdline())]


def test_it_measures_as_any_lane_does(lane: RayLane, model: LoweredModel, inputs: Path) -> None:
    found = lane.measure({"one": model, "two": model}, inputs, TARGET, QUICK)
    assert {m.environment for m in found.values()} == {read_environment().id}
    assert all(m.file_sha256 == model.sha256() for m in found.values())
    assert "Gemm" in {node.operator for node in lane.profile(model, inputs, TARGET, runs=3)}
    # whoever asks remembers what the canaries did there
    quiet = MEMORY.state(lane.environment(), TARGET.threads)
    assert quiet is not None
    assert list(quiet.cores) == sorted(os.sched_getaffinity(0))[-1:]


def test_its_process_is_pinned_and_fresh_where_asked(
    lane: RayLane, model: LoweredModel, inputs: Path
) -> None:
    lane.measure({"one": model}, inputs, TARGET, QUICK)
    (first,) = below("measure_process")
    assert sorted(os.sched_getaffinity(first.pid)) == sorted(os.sched_getaffinity(0))[-1:]
    lane.measure({"one": model}, inputs, TARGET, QUICK, fresh=True)
    (second,) = below("measure_process")
    assert first.pid != second.pid


def test_a_file_that_does_not_open_fails_alone(
    lane: RayLane, model: LoweredModel, inputs: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    broken = LoweredModel(tmp_path, "broken.onnx")
    with pytest.raises(MeasurementError, match=r"cannot open broken\.onnx"):
        lane.measure({"one": broken}, inputs, TARGET, QUICK)
    assert lane.measure({"one": model}, inputs, TARGET, QUICK)


def test_a_job_of_another_ray_is_waited_for(
    lane: RayLane, locks: Path, model: LoweredModel, inputs: Path
) -> None:
    lane.measure({"one": model}, inputs, TARGET, QUICK)
    thread = threading.Thread(target=lane.measure, args=({"one": model}, inputs, TARGET, QUICK))
    assert TOLD == []
    with MeasuringCores(locks, print).held(last_cores(os.sched_getaffinity(0), 1)):
        thread.start()
        while not TOLD:
            thread.join(timeout=0.01)
        assert thread.is_alive()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert len(TOLD) == 1


def kill_while_it_measures(word: str) -> threading.Thread:
    def kill() -> None:
        (child,) = below("measure_process")
        before = child.cpu_times().user
        while child.cpu_times().user < before + 0.05:
            time.sleep(0.01)
        for victim in below(word):
            victim.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_measuring_process_that_is_killed_is_told_apart_from_one_that_crashes(
    lane: RayLane, model: LoweredModel, inputs: Path
) -> None:
    lane.measure({"one": model}, inputs, TARGET, QUICK)
    killer = kill_while_it_measures("measure_process")
    with pytest.raises(KilledError, match="was killed by signal 9"):
        lane.measure({"one": model}, inputs, TARGET, ENDLESS)
    killer.join()


def test_a_keeper_that_is_killed_is_replaced_and_leaves_no_orphan(
    lane: RayLane, model: LoweredModel, inputs: Path
) -> None:
    lane.measure({"one": model}, inputs, TARGET, QUICK)
    (orphan,) = below("measure_process")
    killer = kill_while_it_measures("LaneKeeper")
    short = ENDLESS.model_copy(update={"max_seconds": 3.0})
    found = lane.measure({"one": model}, inputs, TARGET, short)
    killer.join()
    assert found["one"].blocks
    assert not orphan.is_running()


def test_the_device_belongs_to_one_lane(
    session: RaySession, lane: RayLane, model: LoweredModel, inputs: Path
) -> None:
    """Another one gets it when the first gives it back."""
    lane.measure({"one": model}, inputs, TARGET, QUICK)
    done: list[float] = []

    def measure() -> None:
        with RayLane(session) as other:
            other.measure({"one": model}, inputs, TARGET, QUICK)
            done.append(time.monotonic())

    thread = threading.Thread(target=measure)
    thread.start()
    time.sleep(3.0)
    assert done == []
    given_back = time.monotonic()
    lane.close()
    thread.join(timeout=120)
    assert done[0] > given_back
