"""The agent and the lane that asks it, where one of the two is not who or what it should be."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from autosparse.errors import ConfigError, MeasurementError, RequestError, UnauthenticatedError
from autosparse.evaluation import LoweredModel, Target
from autosparse.evaluation.address import AgentAddress
from tests.workers.agents import DEVICE, KEY, QUICK, TARGET, PlayedLane, RunningAgent, lane_to
from workers.agent_lane import AgentLane
from workers.agent_line import Dialled
from workers.agent_messages import Ask, FileOffered, Turn
from workers.messages import FileToOpen, MeasureRequest
from workers.wire import PROTOCOL, Wire, agents_wire, drivers_wire, offer_handshake


@contextmanager
def wire_to(agent: RunningAgent) -> Iterator[Wire]:
    """A connection of somebody with the key, behind the welcome."""
    with agent.connect() as connection:
        wire = offer_handshake(connection, KEY)
        wire.receive(1 << 20, 10.0)
        yield wire


def turn(wire: Wire) -> Turn:
    return Turn.model_validate_json(wire.receive(1 << 20, 10.0))


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


LARGE = bytes(8 << 20)
"""More than a connection holds while nobody reads."""
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


def test_sending_has_its_own_time_and_not_what_receiving_left_over() -> None:
    """The answer to a frame that came late, to somebody who takes it slowly."""
    received: list[bytes] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        agent, driver = agents_wire(ours, b"secret"), drivers_wire(theirs, b"secret")
        driver.send(b"a question")

        def take_slowly() -> None:
            time.sleep(1.5)
            received.append(driver.receive(len(LARGE), 20.0))

        agent.receive(100, 0.5)
        thread = threading.Thread(target=take_slowly)
        thread.start()
        agent.send(LARGE)
        thread.join()
        assert received == [LARGE]
        with pytest.raises(TimeoutError):
            agent.send(LARGE, seconds=0.1)


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
