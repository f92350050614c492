"""Jobs of one user on one machine: whoever measures has its cores alone."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from autosparse.errors import WorkerError
from autosparse.evaluation import LoweredModel, Target, TimingSettings
from tests.workers.agents import KEY, PlayedLane, running_agent
from workers.agent_lane import AgentLane
from workers.agent_line import Dialled
from workers.measuring_cores import MeasuringCores, last_cores

# a job whose every measurement takes 4 ms: prints when each began and ended
_JOB = """
import sys, time
from pathlib import Path
from workers.measuring_cores import MeasuringCores

cores = MeasuringCores(Path(sys.argv[1]), lambda text: None, sleep=lambda s: time.sleep(s / 50))
for _ in range(25):
    with cores.held(int(core) for core in sys.argv[2:]):
        begun = time.monotonic_ns()
        time.sleep(0.004)
        ended = time.monotonic_ns()
    print(begun, ended)
"""
_HOLDER = """
import sys, time
from pathlib import Path
from workers.measuring_cores import MeasuringCores

with MeasuringCores(Path(sys.argv[1]), print).held([0, 1]):
    print("held", flush=True)
    time.sleep(600)
"""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def cores_in(directory: Path, told: list[str] | None = None) -> MeasuringCores:
    return MeasuringCores(directory, (told if told is not None else []).append)


def test_measurements_of_two_processes_overlap_nowhere(tmp_path: Path) -> None:
    """They have one core in common, of two each."""
    jobs = [started(_JOB, tmp_path, *cores) for cores in ((0, 1), (1, 2))]
    spans: list[tuple[int, int, int]] = []
    for number, job in enumerate(jobs):
        lines = job.communicate(timeout=60)[0].splitlines()
        assert job.returncode == 0
        assert len(lines) == 25
        begun_ended = (map(int, line.split()) for line in lines)
        spans += [(begun, ended, number) for begun, ended in begun_ended]
    spans.sort()
    for (_, ended, _), (begun, _, _) in itertools.pairwise(spans):
        assert ended <= begun


def test_a_job_that_has_measured_lines_up_behind_one_that_waits(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()
    waiting = MeasuringCores(tmp_path, lambda text: waits.set())

    def wait() -> None:
        with waiting.held([3]):
            order.append("who waited")

    thread = threading.Thread(target=wait)
    busy = cores_in(tmp_path)
    with busy.held([3]):
        thread.start()
        assert waits.wait(20)
    with busy.held([3]):
        order.append("who had measured")
    thread.join(timeout=20)
    assert order == ["who waited", "who had measured"]


def test_jobs_on_rings_of_cores_do_not_block_each_other(tmp_path: Path) -> None:
    jobs = [started(_JOB, tmp_path, *cores) for cores in ((0, 1), (2, 1), (2, 0))]
    for job in jobs:
        job.communicate(timeout=60)
        assert job.returncode == 0


def test_other_cores_are_not_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    with cores_in(tmp_path).held([0, 1]), cores_in(tmp_path, told).held([2, 3]):
        assert told == []


def test_a_killed_job_frees_its_cores(tmp_path: Path) -> None:
    holder = started(_HOLDER, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        holder.kill()
        holder.communicate()

    with MeasuringCores(tmp_path, tell).held([1]):
        assert len(told) == 1
    assert f"process {holder.pid}) measures on core 1" in told[0]
    assert "take turns" in told[0]


def test_two_jobs_in_turns_tell_it_once(tmp_path: Path) -> None:
    told: list[str] = []
    looked = threading.Event()

    def sleep(seconds: float) -> None:
        looked.set()
        time.sleep(seconds / 50)

    waiting = MeasuringCores(tmp_path, told.append, sleep=sleep)

    def measure() -> None:
        with waiting.held([0]):
            pass

    for _ in range(3):
        looked.clear()
        thread = threading.Thread(target=measure)
        with cores_in(tmp_path).held([0]):
            thread.start()
            assert looked.wait(20)
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert len(told) == 1


def test_a_job_that_was_stopped_is_named_and_not_waited_for_for_ever(tmp_path: Path) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 100 * seconds

    told: list[str] = []
    waiting = MeasuringCores(tmp_path, told.append, clock=lambda: now[0], sleep=sleep)
    with (
        cores_in(tmp_path).held([5]),
        pytest.raises(WorkerError, match=r"core 5 .* within 3600 s") as caught,
        waiting.held([5]),
    ):
        pytest.fail("two measure at once")
    assert len(told) == 2
    assert f"is process {os.getpid()} stopped?" in told[1]
    assert "--resume" in caught.value.hint
    # and nothing of the wait is left
    with waiting.held([5]):
        assert len(told) == 2


@pytest.mark.parametrize("has_home", [True, False])
def test_where_nothing_can_be_written_it_is_told_and_measured(
    tmp_path: Path, has_home: bool
) -> None:
    (tmp_path / "file").write_text("no directory")
    told: list[str] = []
    cores = MeasuringCores(tmp_path / "file" / "measuring" if has_home else None, told.append)
    measured = 0
    for _ in range(2):
        with cores.held([0]):
            measured += 1
    assert measured == 2
    assert len(told) == 1
    assert "not waited for" in told[0]


def test_errors_of_a_measurement_are_not_taken_for_those_of_the_lock(tmp_path: Path) -> None:
    told: list[str] = []
    cores = cores_in(tmp_path, told)
    with pytest.raises(OSError, match="no room"), cores.held([0]):
        raise OSError("no room")
    assert told == []
    with cores_in(tmp_path, told).held([0]):
        assert told == []


def test_it_stays_on_the_last_cores() -> None:
    assert last_cores({3, 0, 2, 1}, 2) == (2, 3)
    assert last_cores([0], 4) == (0,)


def test_who_asks_a_device_that_measures_for_itself_comes_again(
    tmp_path: Path, residual_model: Path
) -> None:
    held = [WorkerError("core 3 of this machine did not become free")]

    def happens() -> None:
        if held:
            raise held.pop()

    inputs = tmp_path / "inputs.npz"
    inputs.write_bytes(b"inputs")
    model = LoweredModel(residual_model.parent, residual_model.name)
    told: list[str] = []
    with running_agent(tmp_path / "scratch", PlayedLane(happens=happens)) as agent:
        lane = AgentLane(Dialled(agent.address, KEY), told.append)
        target = Target(address="rpc://10.0.0.9:9190")
        found = lane.measure({"one": model}, inputs, target, TimingSettings(rounds=3))
    assert list(found) == ["one"]
    assert len(told) == 1
    assert "it measures for another job" in told[0]
