"""The agent and the lane that asks it: files, rounds, broken connections, full disks."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import (
    KilledError,
    MeasurementError,
    StorageError,
    TooLargeError,
    WorkerError,
)
from autosparse.evaluation import LoweredModel
from autosparse.evaluation.address import AgentAddress
from tests.models import residual_cnn
from tests.workers.agents import (
    DEVICE,
    KEY,
    QUICK,
    TARGET,
    PlayedLane,
    RunningAgent,
    lane_to,
    running_agent,
)
from workers.agent_lane import AgentLane
from workers.agent_line import Dialled
from workers.agent_process import _Serving
from workers.messages import MeasureRequest


def test_the_seconds_and_the_environment_are_the_devices(
    agent: RunningAgent, model: LoweredModel, inputs: Path
) -> None:
    lane = lane_to(agent)
    found = lane.measure({"baseline": model, "../x": model}, inputs, TARGET, QUICK)
    assert list(found) == ["baseline", "../x"]
    for measurement in found.values():
        assert measurement.environment == DEVICE.id == lane.environment().id
        assert measurement.file_sha256 == model.sha256()
        assert measurement.target == "phone"
        assert measurement.percentile_seconds("p50") == 0.001
    assert lane.profile(model, inputs, TARGET, runs=3) == ()


def test_the_device_learns_neither_paths_nor_addresses_of_the_driver(
    agent: RunningAgent, model: LoweredModel, inputs: Path
) -> None:
    lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)
    (asked,) = agent.lane.asked
    assert isinstance(asked, MeasureRequest)
    assert (asked.target.address, asked.target.key_file) == ("", "")
    assert asked.files["one"].directory.is_relative_to(agent.scratch)
    assert asked.inputs.is_relative_to(agent.scratch)


def test_a_file_is_sent_once(agent: RunningAgent, model: LoweredModel, inputs: Path) -> None:
    lane = lane_to(agent)
    for _ in range(2):
        lane.measure({"one": model, "two": model}, inputs, TARGET, QUICK)
    expected = {"inputs.npz", f"0/{model.entry}", f"1/{model.entry}"}
    assert agent.lane.seen == [expected, expected]
    done = [line for line in agent.told if "measured" in line]
    assert ["2 of them new" in line for line in done] == [True, False]
    # what was laid out for a request is gone, what may be needed again is there
    assert {p.name for p in agent.scratch.iterdir()} == {"files"}
    assert len(list((agent.scratch / "files").iterdir())) == 2


def test_what_was_used_longest_ago_makes_room(
    tmp_path: Path, model: LoweredModel, inputs: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = residual_cnn(seed=5).save(tmp_path / "other" / "model.onnx", "logits")
    room = model.path.stat().st_size + inputs.stat().st_size + 100
    with running_agent(tmp_path / "scratch", PlayedLane(), scratch_bytes=room) as agent:
        lane = lane_to(agent)
        for path in (model.path, other, model.path):
            found = lane.measure(
                {"one": LoweredModel(path.parent, path.name)}, inputs, TARGET, QUICK
            )
            assert found["one"].blocks
            assert sum(p.stat().st_size for p in (agent.scratch / "files").iterdir()) <= room
        with pytest.raises(TooLargeError, match="larger than the 0 MiB"):
            lane.measure(
                {"one": model, "two": LoweredModel(other.parent, other.name)}, inputs, TARGET,
                QUICK,
            )  # fmt: skip


def test_slow_files_have_the_time_for_as_many_rounds_as_an_interval_needs(
    model: LoweredModel, inputs: Path
) -> None:
    """However many there are: at two seconds an inference, and five of them in a block."""
    lane = PlayedLane()
    for count in (1, 2, 9):
        lane.measure({str(i): model for i in range(count)}, inputs, TARGET, QUICK)
        assert lane.limits[-1] > QUICK.max_seconds + 3 * count * 5 * 2.0


@pytest.mark.parametrize("kind", [MeasurementError, KilledError])
def test_what_happens_to_the_measuring_process_is_told_as_it_is(
    tmp_path: Path, model: LoweredModel, inputs: Path, kind: type[MeasurementError]
) -> None:
    def die() -> None:
        raise kind("the measuring process was ended")

    with running_agent(tmp_path / "scratch", PlayedLane(happens=die)) as agent:
        with pytest.raises(MeasurementError, match="was ended") as caught:
            lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)
        assert type(caught.value) is kind


def test_one_measurement_at_a_time(tmp_path: Path, model: LoweredModel, inputs: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(20)

    with running_agent(tmp_path / "scratch", PlayedLane(happens=wait)) as agent:
        first = threading.Thread(
            target=lane_to(agent).measure, args=({"one": model}, inputs, TARGET, QUICK)
        )
        first.start()
        assert begun.wait(20)
        with pytest.raises(WorkerError, match="it measures for another job"):
            lane_to(agent, patience=0.5).measure({"two": model}, inputs, TARGET, QUICK)
        go_on.set()
        first.join()
        assert lane_to(agent).measure({"two": model}, inputs, TARGET, QUICK)
    labels = [list(asked.files) for asked in agent.lane.asked if isinstance(asked, MeasureRequest)]
    assert labels == [["one"], ["two"]]


def test_a_device_that_is_away_for_too_long_ends_the_job_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = AgentAddress("127.0.0.1", taken.getsockname()[1])
    told: list[str] = []
    with pytest.raises(WorkerError, match="did not answer for 1 s: Connection refused") as caught:
        AgentLane(Dialled(address, KEY), told.append, 1.0).environment()
    assert "--resume" in caught.value.hint
    assert len(told) == 1


def test_a_connection_that_breaks_is_made_again(
    tmp_path: Path, model: LoweredModel, inputs: Path
) -> None:
    broken: list[int] = []

    def break_once() -> None:
        if not broken:
            broken.append(1)
            raise ConnectionResetError("the device was switched off")

    with running_agent(tmp_path / "scratch", PlayedLane(happens=break_once)) as agent:
        assert lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)
    assert broken


def test_the_time_in_which_the_device_worked_is_no_time_away(
    tmp_path: Path, model: LoweredModel, inputs: Path
) -> None:
    """It is switched off at the end of a request that took longer than anybody waits."""
    patience = 0.6
    tries: list[int] = []

    def break_late() -> None:
        tries.append(1)
        if len(tries) == 1:
            time.sleep(2 * patience)
            raise ConnectionResetError("the device was switched off")

    with running_agent(tmp_path / "scratch", PlayedLane(happens=break_late)) as agent:
        assert lane_to(agent, patience=patience).measure({"one": model}, inputs, TARGET, QUICK)
    assert len(tries) == 2


def test_a_file_that_ends_the_agent_each_time_is_not_tried_for_ever(
    tmp_path: Path, model: LoweredModel, inputs: Path
) -> None:
    tries: list[int] = []

    def break_off() -> None:
        tries.append(1)
        raise ConnectionResetError("the device was switched off")

    with (
        running_agent(tmp_path / "scratch", PlayedLane(happens=break_off)) as agent,
        pytest.raises(WorkerError, match=r"broke off \d+ times: "),
    ):
        lane_to(agent, patience=0.6).measure({"one": model}, inputs, TARGET, QUICK)
    assert 5 < len(tries) < 20


def test_a_connection_that_is_lost_before_it_is_taken_is_not_the_last(
    tmp_path: Path, model: LoweredModel, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [errno.ECONNABORTED, errno.EMFILE, errno.EMFILE]
    plain = socket.socket.accept

    def losing(self: socket.socket) -> tuple[socket.socket, Any]:
        if losses:
            number = losses.pop()
            raise OSError(number, os.strerror(number))
        return plain(self)

    monkeypatch.setattr(socket.socket, "accept", losing)
    with running_agent(tmp_path / "scratch", PlayedLane()) as agent:
        assert lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)
    lost = [line for line in agent.told if "a connection was lost" in line]
    assert lost == ["a connection was lost: Too many open files"]


def test_a_system_without_threads_to_spare_turns_away_and_keeps_no_place(
    agent: RunningAgent, model: LoweredModel, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refused)
        for _ in range(20):  # more than may be connected at once
            with agent.connect() as connection:
                assert connection.recv(1) == b""
    assert len([line for line in agent.told if "turned away: can't start" in line]) == 20
    assert lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)


def test_an_agent_that_nothing_reaches_does_not_say_that_it_is_there(tmp_path: Path) -> None:
    """What renews its place with a service waits by this."""
    with running_agent(tmp_path / "scratch", PlayedLane()) as agent:
        serving = _Serving(agent.agent, agent.listening)
        serving.start()
        serving.go_on(0.01)
    with pytest.raises(WorkerError, match="cannot answer any more: "):
        serving.go_on(20.0)


def test_a_full_scratch_disk_is_told_as_such(
    agent: RunningAgent, model: LoweredModel, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes a kilobyte: a limit of this process's files has the same error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    lane = lane_to(agent)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(StorageError, match=r"the disk of the device at .* is full") as caught:
            lane.measure({"one": model}, inputs, TARGET, QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "--resume" in caught.value.hint
    assert not [p for p in (agent.scratch / "files").iterdir() if p.suffix == ".partial"]
    assert lane.measure({"one": model}, inputs, TARGET, QUICK)
