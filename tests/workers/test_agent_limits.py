"""Whoever says nothing, or too little at a time, or comes in numbers, keeps nobody else waiting."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from autosparse.evaluation import LoweredModel, Target
from tests.workers.agents import KEY, QUICK, TARGET, RunningAgent, lane_to
from workers.agent_messages import Ask, FileOffered, Turn
from workers.messages import FileToOpen, MeasureRequest
from workers.wire import Wire, offer_handshake

PLACES = 16
"""Connections at once."""
SECONDS = 1.5
"""For a greeting and for the next frame, in place of ten and sixty."""
LATE = ("gone: timed out", "gone: nothing came in time")
"""What the agent tells of whoever takes longer: in one wait, or in many."""
_DRIPS, _PAUSE = 200, 0.05
_FEW_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.wire.HANDSHAKE_SECONDS", SECONDS)
    monkeypatch.setattr("workers.agent.WAIT_SECONDS", SECONDS)


@pytest.fixture
def wire(agent: RunningAgent) -> Iterator[Wire]:
    """A connection of somebody with the key, behind the welcome."""
    with agent.connect() as connection:
        made = offer_handshake(connection, KEY)
        made.receive(1 << 20, _FEW_SECONDS)
        yield made


def until_told(agent: RunningAgent, *words: str) -> None:
    end = time.monotonic() + _FEW_SECONDS
    while not any(one in line for line in agent.told for one in words):
        assert time.monotonic() < end, agent.told
        time.sleep(0.01)


def all_that_comes(connection: socket.socket) -> bytes:
    """What the agent says until it goes; one that stays is an error of the socket's own limit."""
    found = b""
    while piece := connection.recv(4096):
        found += piece
    return found


def test_whoever_says_nothing_is_turned_away(agent: RunningAgent) -> None:
    with agent.connect() as connection:
        assert b"nonce" in all_that_comes(connection)
    until_told(agent, *LATE)


def test_whoever_says_a_byte_at_a_time_has_no_more_time_for_it(agent: RunningAgent) -> None:
    said = 0
    with agent.connect() as connection, suppress(OSError):  # the agent goes in the middle
        connection.sendall(_DRIPS.to_bytes(4, "big"))
        while said < _DRIPS:
            connection.sendall(b" ")
            said += 1
            time.sleep(_PAUSE)
    assert said < _DRIPS
    until_told(agent, *LATE)


def test_one_of_too_many_is_turned_away_and_silent_ones_make_room(
    agent: RunningAgent, model: LoweredModel, inputs: Path
) -> None:
    with ExitStack() as silent:
        for _ in range(PLACES):
            silent.enter_context(agent.connect())
        with agent.connect() as late:
            assert all_that_comes(late) == b""
        # they are all still connected; an honest driver comes again until there is room
        assert lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)
    until_told(agent, *LATE)


def test_somebody_with_the_key_who_asks_nothing_is_turned_away(
    agent: RunningAgent, wire: Wire
) -> None:
    with pytest.raises(ConnectionError):
        wire.receive(1 << 20, _FEW_SECONDS)
    until_told(agent, *LATE)


@pytest.mark.parametrize("how", ["is silent", "is gone"])
def test_a_driver_that_stops_in_the_middle_of_a_file_keeps_no_measurement_waiting(
    agent: RunningAgent, model: LoweredModel, inputs: Path, how: str
) -> None:
    content = model.path.read_bytes()
    whole = FileOffered(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    request = MeasureRequest(
        files={"one": FileToOpen.of(model)}, inputs=inputs, target=Target(), settings=QUICK
    )
    files = {"inputs.npz": whole, f"0/{model.entry}": whole}
    with agent.connect() as connection:
        wire = offer_handshake(connection, KEY)
        wire.receive(1 << 20, _FEW_SECONDS)
        ask = Ask(request=request, limit_seconds=1.0, fresh=False, files=files)
        wire.send(ask.model_dump_json().encode())
        turn = Turn.model_validate_json(wire.receive(1 << 20, _FEW_SECONDS))
        assert turn.wanted is not None
        wire.send(content[: len(content) // 2])
        if how == "is gone":
            connection.close()
            until_told(agent, "gone: ")
        else:
            with pytest.raises(ConnectionError):
                wire.receive(1 << 20, _FEW_SECONDS)
            until_told(agent, *LATE)
    assert agent.lane.asked == []
    assert list((agent.scratch / "files").iterdir()) == []
    assert lane_to(agent).measure({"one": model}, inputs, TARGET, QUICK)
