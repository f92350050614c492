"""Assemble an agent: its key, its socket, its scratch folder and its lane."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autosparse.errors import ConfigError
from autosparse.evaluation.address import AgentAddress
from autosparse.pipeline.workspace import held
from workers.agent import Agent
from workers.agent_key import read_key, read_or_make_key
from workers.agent_store import FileStore, own_directory
from workers.isolated_lane import IsolatedLane
from workers.measuring_cores import MeasuringCores

# A job of this device itself may be measuring: drivers, who are told so, come again.
_TURN_SECONDS = 30.0


@dataclass(frozen=True)
class AgentSettings:
    """What `autosparse agent` was asked."""

    listen: str
    key_file: Path | None
    scratch: Path
    scratch_bytes: int
    longest_seconds: float


def run_agent(settings: AgentSettings, tell: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Raises:
        ConfigError: the key or the address cannot be used.
        StorageError: the scratch folder cannot be, or another agent has it.
    """
    address = AgentAddress.parse(settings.listen)
    key, made = (
        (read_key(None), False)
        if settings.key_file is None
        else read_or_make_key(settings.key_file)
    )
    scratch = own_directory(settings.scratch)
    cores = MeasuringCores.of_this_user(tell, _TURN_SECONDS)
    with (
        held(scratch, scratch),
        _listening(address) as listening,
        IsolatedLane(cores=cores) as lane,
    ):
        store = FileStore(scratch, settings.scratch_bytes)
        # what measures writes its traces there, too
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        if made:
            tell(f"a new key is in {settings.key_file}: copy it to where jobs are started")
        if not address.is_loopback:
            tell(
                f"warning: {address.host} can be reached from other machines. Who holds the key "
                "can run programs here, and what is sent can be read on the way: use a network "
                "that you trust, or an ssh tunnel"
            )
        host, port = listening.getsockname()[:2]
        tell(f"Listening on {AgentAddress(host, port)}")
        Agent.make(key, lane, store, settings.longest_seconds, tell).serve(listening)


def _listening(address: AgentAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror or error}",
            hint="give another --listen HOST:PORT",
        ) from error
