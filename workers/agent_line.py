"""How a lane comes by a connection to its agent: it dials, or is handed one by its parent.

A process that reads what somebody uploaded can make no sockets (`api.sandbox`), and is not to have
an agent's key. Its parent connects, proves that it holds the key, and passes the connection on
with the secret of that connection alone: over a pair of sockets that the child was born with.

    child -> parent   "line"
    parent -> child   the secret, with the connection; or a sentence, with none
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from autosparse.evaluation.address import AgentAddress
from workers.wire import HANDSHAKE_SECONDS, Wire, drivers_wire, notice_the_dead, offer_handshake

LINES_VARIABLE = "AUTOSPARSE_AGENT_LINES"
"""In a child: the file descriptor over which it asks its parent for connections."""
_ASKED = b"line"
_MOST_BYTES = 1024
# The parent connects and proves the key meanwhile.
_PATIENCE_SECONDS = 3 * HANDSHAKE_SECONDS


class AgentLine(Protocol):
    """Opens connections to one agent."""

    @property
    def address(self) -> AgentAddress:
        """What the agent is called where people are told of it."""

    @contextmanager
    def open(self) -> Iterator[Wire]:
        """A connection on which both sides have proven that they hold the key.

        Raises:
            OSError: the device does not answer.
            RequestError: it has another key, or is no agent.
        """
        ...


@dataclass(frozen=True)
class Dialled:
    """Connects to where the agent listens.

    Args:
        address: that place.
        key: what both hold.
    """

    address: AgentAddress
    key: bytes

    @contextmanager
    def open(self) -> Iterator[Wire]:
        """See `AgentLine.open`."""
        with dialled(self.address, self.key) as (_, wire):
            yield wire


@contextmanager
def dialled(address: AgentAddress, key: bytes) -> Iterator[tuple[socket.socket, Wire]]:
    """A connection to where an agent listens, and what may be said on it.

    Raises:
        OSError: the device does not answer.
        RequestError: it has another key, or is no agent.
    """
    place = (address.host, address.port)
    with socket.create_connection(place, timeout=HANDSHAKE_SECONDS) as connection:
        notice_the_dead(connection)
        yield connection, offer_handshake(connection, key)


class HandedOver:
    """Asks the parent of this process for every connection.

    Args:
        address: what the agent is called; where it is, the parent knows.
        handle: of this process's end of the pair of sockets.
    """

    def __init__(self, address: AgentAddress, handle: int) -> None:
        self.address = address
        self._handle = handle
        self._one_at_a_time = threading.Lock()

    @classmethod
    def inherited(cls, address: AgentAddress, environment: Mapping[str, str]) -> HandedOver | None:
        """What the parent gave this process; None where it gave nothing."""
        given = environment.get(LINES_VARIABLE)
        return None if given is None else cls(address, int(given))

    @contextmanager
    def open(self) -> Iterator[Wire]:
        """See `AgentLine.open`."""
        # of a copy, since what is closed is the handle
        with self._one_at_a_time, socket.socket(fileno=os.dup(self._handle)) as channel:
            channel.settimeout(_PATIENCE_SECONDS)
            channel.send(_ASKED)
            said, handles, _, _ = socket.recv_fds(channel, _MOST_BYTES, 1)
        if not handles:
            raise ConnectionRefusedError(said.decode(errors="replace") or "nobody connects to it")
        with socket.socket(fileno=handles[0]) as connection:
            connection.settimeout(HANDSHAKE_SECONDS)
            yield drivers_wire(connection, said)


def is_asked_for(channel: socket.socket) -> bool:
    """Wait until the child asks for a connection; False where it is gone."""
    return channel.recv(_MOST_BYTES) == _ASKED


def hand_over(channel: socket.socket, connection: socket.socket, wire: Wire) -> None:
    """Give the child a connection on which no frame was sent yet."""
    socket.send_fds(channel, [wire.secret], [connection.fileno()])


def refuse_line(channel: socket.socket, why: str) -> None:
    """Tell the child that there is none."""
    channel.send(why.encode()[:_MOST_BYTES])


def line_pair() -> tuple[socket.socket, socket.socket]:
    """The parent's end and the child's: messages stay apart, and an end that closes is noticed."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
