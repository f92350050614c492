"""Connections to devices that joined: made here, never by what reads uploads.

The service connects to what the agent of a device told, in the networks that whoever runs the
service names, and to nothing else. Whatever is wrong with an address, the answer is the same, so
that nobody learns from it what else listens there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from api.database import Database
from api.outbound import Network
from api.settings import ServerSettings
from api.tables import DeviceRow, JobRow
from autosparse.errors import ConfigError, ForbiddenError, UserInputError
from autosparse.evaluation import Environment
from autosparse.evaluation.address import AgentAddress
from workers.agent_line import (
    LINES_VARIABLE,
    dialled,
    hand_over,
    is_asked_for,
    line_pair,
    refuse_line,
)
from workers.agent_messages import Welcome
from workers.wire import HANDSHAKE_SECONDS, Wire

_WELCOME_BYTES = 64 << 10
_END_SECONDS = 1.0
_AWAY = "it is not there, or not with the key that it joined with"
Connect = Callable[[], AbstractContextManager[tuple[socket.socket, Wire]]]


def device_address(text: str, allowed: Sequence[Network]) -> AgentAddress:
    """The address of an agent, if the service may connect to it.

    Raises:
        ConfigError: no address of a number and a port: names lead elsewhere a moment later.
        ForbiddenError: it is in no network that devices may be in.
    """
    address = AgentAddress.parse(text)
    try:
        place = ipaddress.ip_address(address.host)
    except ValueError as error:
        raise ConfigError(
            f"address: {address.host} is no IP address", hint="write IP:PORT, such as 10.1.0.7:9190"
        ) from error
    if address.port == 0:
        raise ConfigError("address: 0 is no port that anybody listens on")
    if not any(place in network for network in allowed if network.version == place.version):
        raise ForbiddenError(
            f"this service takes no devices at {place}",
            hint="whoever runs it names the networks of devices: autosparse serve "
            "--device-network 10.1.0.0/16",
        )
    return address


def agent_at(address: AgentAddress, key: str) -> Environment:
    """What the agent at an address says of its device.

    Raises:
        ConfigError: none answers that holds the key.
    """
    try:
        with dialled(address, key.encode()) as (_, wire):
            said = wire.receive(_WELCOME_BYTES, HANDSHAKE_SECONDS)
            return Welcome.model_validate_json(said).environment
    except (OSError, UserInputError, ValidationError) as error:
        raise ConfigError(
            f"no agent of this version answers at {address}",
            hint="the service connects to the agent: see that it listens where the service "
            "reaches it (--listen, --advertise), and that nothing in between keeps it out",
        ) from error


@dataclass(frozen=True)
class Lines:
    """What a job's process is born with, so that it may ask for connections."""

    environment: Mapping[str, str] = field(default_factory=dict)
    handles: tuple[int, ...] = ()


@contextmanager
def lines_to(
    database: Database, settings: ServerSettings, job: JobRow, device: str
) -> Iterator[Lines]:
    """Connect a job's process to the device that it measures on, whenever it asks.

    Args:
        database: where devices are.
        settings: which networks they may be in.
        job: whose job it is decides whether it may.
        device: where it measures; nothing is needed for a device that has a runner.
    """
    with database.reading() as session:
        has_joined = session.get(DeviceRow, device) is not None
    if not has_joined:
        yield Lines()
        return
    ours, theirs = line_pair()
    connect = partial(_connection, database, settings, job.owner, device)
    broker = threading.Thread(target=_hand_out, args=(ours, connect), daemon=True)
    with ours, theirs:
        broker.start()
        try:
            yield Lines({LINES_VARIABLE: str(theirs.fileno())}, (theirs.fileno(),))
        finally:
            ours.shutdown(socket.SHUT_RDWR)  # wakes up who waits to be asked
            broker.join(_END_SECONDS)  # it may be connecting still, and ends when that has failed


def _hand_out(ours: socket.socket, connect: Connect) -> None:
    """Answer one request after the other, until the process is gone or says something else."""
    with contextlib.suppress(OSError):
        while is_asked_for(ours):
            try:
                with connect() as (connection, wire):
                    hand_over(ours, connection, wire)
            except (OSError, UserInputError, SQLAlchemyError):
                refuse_line(ours, _AWAY)


@contextmanager
def _connection(
    database: Database, settings: ServerSettings, owner: str, device: str
) -> Iterator[tuple[socket.socket, Wire]]:
    """To where the device is now, which may be elsewhere than when the job began.

    Raises:
        OSError: it is away, or another's by now.
        UserInputError: it has another key, or may not be where it is.
    """
    with database.reading() as session:
        row = session.get(DeviceRow, device)
        is_ours = row is not None and row.until > 0.0 and (row.shared or row.owner == owner)
    if row is None or not is_ours:
        raise ConnectionRefusedError(_AWAY)
    address = device_address(row.address, settings.device_networks)
    with dialled(address, row.secret.encode()) as found:
        yield found
