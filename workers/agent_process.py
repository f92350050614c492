"""Assemble an agent: its key, its socket, its scratch folder and its lane."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable

from autosparse.errors import ConfigError, WorkerError
from autosparse.evaluation.address import AgentAddress
from autosparse.pipeline.workspace import held
from workers.agent import Agent
from workers.agent_key import drawn_key, read_key, read_or_make_key
from workers.agent_settings import AgentSettings, JoinSettings
from workers.agent_store import FileStore, own_directory
from workers.isolated_lane import IsolatedLane
from workers.measuring_cores import MeasuringCores

# A job of this device itself may be measuring: drivers, who are told so, come again.
_TURN_SECONDS = 30.0


def run_agent(settings: AgentSettings, tell: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Raises:
        ConfigError: the key or the address cannot be used.
        UserInputError: the service that is joined refuses the device.
        ServiceError: it cannot be reached.
        StorageError: the scratch folder cannot be, or another agent has it.
        WorkerError: it joined a service, and nothing can reach it any more.
    """
    address = AgentAddress.parse(settings.listen)
    key, made = _key(settings)
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
        agent = Agent.make(key, lane, store, settings.longest_seconds, tell)
        if settings.join is None:
            agent.serve(listening)
        else:
            _serve_a_service(agent, settings.join, key, listening)


def _key(settings: AgentSettings) -> tuple[bytes, bool]:
    """The agent's key, and whether somebody is to copy it from the file that it was made in."""
    if settings.join is not None:
        return drawn_key(), False
    if settings.key_file is None:
        return read_key(None), False
    return read_or_make_key(settings.key_file)


def _serve_a_service(
    agent: Agent, join: JoinSettings, key: bytes, listening: socket.socket
) -> None:
    """Answer the service, which connects before it takes the device.

    Raises:
        WorkerError: nothing can come any more.
    """
    from workers.agent_joining import joining  # the client's libraries, which no other agent needs

    listens = AgentAddress(*listening.getsockname()[:2])
    serving = _Serving(agent, listening)
    with joining(join, key, listens, agent.tell, serving.go_on) as joined:
        serving.start()
        joined.keep()


class _Serving(threading.Thread):
    """Answers, beside what says every few seconds that the device is there."""

    def __init__(self, agent: Agent, listening: socket.socket) -> None:
        super().__init__(daemon=True)
        self._agent = agent
        self._listening = listening
        self._ended = ""

    def run(self) -> None:
        """Answer until nothing can come any more."""
        try:
            self._agent.serve(self._listening)
        except OSError as error:
            self._ended = error.strerror or str(error)

    def go_on(self, seconds: float) -> None:
        """Let some time pass.

        Raises:
            WorkerError: nobody answers any more, so nobody is to say that the device is there.
        """
        self.join(seconds)
        if not self.is_alive():
            raise WorkerError(
                f"the agent cannot answer any more: {self._ended}", hint="start it again"
            )


def _listening(address: AgentAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror or error}",
            hint="give another --listen HOST:PORT",
        ) from error
