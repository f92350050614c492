"""The agent and the lane that asks it: files, refusals, hostile peers, full disks."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from autosparse.errors import (
    ConfigError,
    KilledError,
    MeasurementError,
    RequestError,
    StorageError,
    TooLargeError,
    UnauthenticatedError,
    WorkerError,
)
from autosparse.evaluation import LoweredModel, Target, TimingSettings
from autosparse.evaluation.address import AgentAddress
from tests.models import residual_cnn
from tests.workers.agents import DEVICE, KEY, PlayedLane, RunningAgent, running_agent
from workers.agent_lane import AgentLane
from workers.agent_line import Dialled
from workers.agent_messages import Ask, FileOffered, Turn
from workers.messages import FileToOpen, MeasureRequest
from workers.wire import PROTOCOL, Wire, offer_handshake

TARGET = Target(name="phone", address="rpc://10.0.0.9:9190", key_file="own.key")
QUICK = TimingSettings(rounds=3, max_seconds=2.0)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with running_agent(tmp_path / "scratch", PlayedLane()) as running:
        yield running


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    path.write_bytes(b"inputs")
    return path


@pytest.fixture
def model(residual_model: Path) -> LoweredModel:
    return LoweredModel(residual_model.parent, residual_model.name)


def lane_to(agent: RunningAgent, key: bytes = KEY, patience: float = 20.0) -> AgentLane:
    return AgentLane(Dialled(agent.address, key), agent.told.append, patience)


@contextmanager
def wire_to(agent: RunningAgent) -> Iterator[Wire]:
    """A connection of somebody with the key, behind the welcome."""
    with agent.connect() as connection:
        wire = offer_handshake(connection, KEY)
        wire.receive(1 << 20, 10.0)
        yield wire


def turn(wire: Wire) -> Turn:
    return Turn.model_validate_json(wire.receive(1 << 20, 10.0))


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


def test_a_wrong_key_is_refused_at_once(
    agent: RunningAgent, model: LoweredModel, inputs: Path
) -> None:
    with pytest.raises(UnauthenticatedError, match="the key is another one"):
        lane_to(agent, key=b"x" * 32).measure({"one": model}, inputs, TARGET, QUICK)
    assert agent.lane.asked == []
    assert list((agent.scratch / "files").iterdir()) == []
    assert lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)


def test_whoever_answers_without_the_key_is_not_believed() -> None:
    """It may listen on the agent's port, and let everybody in."""
    with socket.create_server(("127.0.0.1", 0)) as impostor:

        def let_in() -> None:
            connection, _ = impostor.accept()
            with connection:
                for document in ({"protocol": PROTOCOL, "nonce": "00" * 32}, {"proof": "00" * 32}):
                    payload = json.dumps(document).encode()
                    connection.sendall(len(payload).to_bytes(4, "big") + payload)
                connection.recv(4096)

        thread = threading.Thread(target=let_in)
        thread.start()
        address = AgentAddress("127.0.0.1", impostor.getsockname()[1])
        with pytest.raises(UnauthenticatedError, match="no agent of yours"):
            AgentLane(Dialled(address, KEY), print).environment()
        thread.join()


def test_the_key_is_never_sent(
    agent: RunningAgent, model: LoweredModel, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    plain = socket.socket.sendall

    def watched(self: socket.socket, data: bytes) -> None:
        sent.append(bytes(data))
        plain(self, data)

    monkeypatch.setattr(socket.socket, "sendall", watched)
    lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)
    everything = b"".join(sent)
    assert model.path.read_bytes()[:64] in everything
    assert KEY not in everything
    assert KEY.hex().encode() not in everything


HOSTILE = {
    "http": b"GET / HTTP/1.1\r\nHost: device\r\n\r\n",
    "nothing": b"",
    "zeros": bytes(5000),
    "no document": b"\x00\x00\x00\x04{[(<",
    "a list": b"\x00\x00\x00\x02[]",
    "deep": b"\x00\x00\x03\xe8" + b"[" * 1000,
    "no nonce": b'\x00\x00\x00\x0f{"proof": "00"}',
    "numbers": b'\x00\x00\x00\x1a{"nonce": 1, "proof": 2.0}',
    "random": os.urandom(4096),
}


def test_hostile_bytes_end_their_connection_alone(
    agent: RunningAgent, model: LoweredModel, inputs: Path
) -> None:
    for name, attack in HOSTILE.items():
        with agent.connect() as connection:
            answer = b""
            with suppress(OSError):  # the agent goes without reading all of it
                connection.sendall(attack)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(4096):
                    answer += piece
            assert b"proof" not in answer, name
    end = time.monotonic() + 20
    while len([line for line in agent.told if "refused" in line or "gone" in line]) < len(HOSTILE):
        assert time.monotonic() < end, agent.told
        time.sleep(0.01)
    assert agent.lane.asked == []
    assert lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)


NONSENSE = {
    "empty": b"", "no fields": b"{}", "a part": b'{"kind": "measure"}', "no text": b"\xff\xfe",
    "deep": b"[" * 100_000,
}  # fmt: skip


def test_nonsense_of_somebody_with_the_key_is_refused(agent: RunningAgent) -> None:
    for name, frame in NONSENSE.items():
        with wire_to(agent) as wire:
            wire.send(frame)
            refused = turn(wire).refused
        assert refused is not None, name
        assert refused.kind == "request", name


def test_a_frame_that_somebody_else_put_in_is_noticed(agent: RunningAgent) -> None:
    with agent.connect() as connection:
        wire = offer_handshake(connection, KEY)
        wire.receive(1 << 20, 10.0)
        connection.sendall((2).to_bytes(4, "big") + bytes(32) + b"{}")
        assert b"not sent by who holds the key" in connection.recv(4096)


def hostile_ask(request: MeasureRequest, files: dict[str, FileOffered]) -> bytes:
    ask = Ask(request=request, limit_seconds=1.0, fresh=False, files=files)
    return ask.model_dump_json().encode()


@pytest.fixture
def plain_request(model: LoweredModel, inputs: Path) -> MeasureRequest:
    return MeasureRequest(
        files={"one": FileToOpen.of(model)}, inputs=inputs, target=Target(), settings=QUICK
    )


@pytest.mark.parametrize("name", ["../../owned", "/owned", "0/../../owned", "0"])
def test_nothing_is_written_outside_the_scratch_folder(
    agent: RunningAgent, plain_request: MeasureRequest, model: LoweredModel, name: str
) -> None:
    before = outside(agent)
    empty = FileOffered(size=0, sha256=hashlib.sha256().hexdigest())
    files = {"inputs.npz": empty, f"0/{model.entry}": empty, name: empty}
    with wire_to(agent) as wire:
        wire.send(hostile_ask(plain_request, files))
        said = turn(wire)
        if said.wanted is not None:  # names may be fine one by one, and not side by side
            said = turn(wire)
    assert said.refused is not None
    assert agent.lane.asked == []
    assert outside(agent) == before


def outside(agent: RunningAgent) -> set[Path]:
    return {p for p in agent.scratch.parent.rglob("*") if agent.scratch not in p.parents}


def test_another_content_than_announced_is_not_kept(
    agent: RunningAgent, plain_request: MeasureRequest, model: LoweredModel
) -> None:
    lie = FileOffered(size=4, sha256="0" * 64)
    with wire_to(agent) as wire:
        wire.send(hostile_ask(plain_request, {"inputs.npz": lie, f"0/{model.entry}": lie}))
        assert turn(wire).wanted is not None
        wire.send(b"evil")
        refused = turn(wire).refused
    assert refused is not None
    assert "not the one that was announced" in refused.message
    assert list((agent.scratch / "files").iterdir()) == []


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


def test_another_device_in_the_middle_of_a_run_is_noticed(
    agent: RunningAgent, model: LoweredModel, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = lane_to(agent)
    lane.environment()
    other = DEVICE.model_copy(update={"cpu": "another core"})
    monkeypatch.setattr(PlayedLane, "environment", lambda self: other)
    with pytest.raises(ConfigError, match="not on the device"):
        lane.measure({"one": model}, inputs, TARGET, QUICK)


def test_an_agent_that_times_another_file_is_not_believed(
    agent: RunningAgent, model: LoweredModel, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoweredModel, "sha256", lambda self: os.urandom(32).hex())
    with pytest.raises(MeasurementError, match="timed other files"):
        lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)


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


def test_an_agent_of_another_version_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as old:

        def greet() -> None:
            connection, _ = old.accept()
            with connection:
                payload = json.dumps(
                    {"protocol": "autosparse-agent/0", "nonce": "00" * 32}
                ).encode()
                connection.sendall(len(payload).to_bytes(4, "big") + payload)

        thread = threading.Thread(target=greet)
        thread.start()
        address = AgentAddress("127.0.0.1", old.getsockname()[1])
        with pytest.raises(RequestError, match="autosparse-agent/0") as caught:
            AgentLane(Dialled(address, KEY), print).environment()
        assert "same version" in caught.value.hint
        thread.join()
