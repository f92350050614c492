"""A measurement lane on another device: asks the agent that runs there."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from autosparse.errors import (
    ConfigError,
    MeasurementError,
    RequestError,
    StorageError,
    TooLargeError,
    WorkerError,
)
from autosparse.evaluation import Environment
from workers.agent_line import AgentLine
from workers.agent_messages import (
    CHUNK_BYTES,
    REPLY_BYTES,
    WAIT_SECONDS,
    Ask,
    FileOffered,
    Refused,
    Turn,
    Wanted,
    Welcome,
)
from workers.asking_lane import AskingLane
from workers.messages import MeasureRequest, ProfileRequest, Reply
from workers.parcel import contents, on_device
from workers.quiet_memory import QuietMemory
from workers.wire import Wire

T = TypeVar("T")
M = TypeVar("M", Welcome, Turn)

PATIENCE_SECONDS = 300.0
"""How long a device may be away, or at work for others, before the job ends."""
# The agent has its own limit, and says more; this one is for an agent that hangs itself.
_GRACE_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_MOST_BREAKS = 5
"""Of one request, after which the device is not waited for anew: a file may end the agent."""


class _BusyError(Exception):
    """The agent measures for somebody else."""


class _BrokenOffError(Exception):
    """The connection ended after the agent's first words; the message says how."""


class AgentLane(AskingLane):
    """Has requests answered by an agent, which may be killed and started again meanwhile.

    Args:
        line: connects to it.
        tell: told in a sentence when the device does not answer.
        patience_seconds: how long to try.
        quiet: as for every `AskingLane`; it is the device's, and kept where the job runs.
    """

    def __init__(
        self,
        line: AgentLine,
        tell: Callable[[str], None],
        patience_seconds: float = PATIENCE_SECONDS,
        quiet: QuietMemory | None = None,
    ) -> None:
        super().__init__(quiet)
        self._line = line
        self._address = line.address
        self._tell = tell
        self._patience = patience_seconds
        self._environment: Environment | None = None

    def environment(self) -> Environment:
        """The device; see `MeasurementLane.environment`."""
        if self._environment is None:
            self._environment = self._patiently(lambda wire, welcome: welcome.environment)
        return self._environment

    def ask(
        self, request: MeasureRequest | ProfileRequest, limit_seconds: float, *, fresh: bool
    ) -> Reply:
        """Have the agent answer; see `AskingLane.ask`.

        Raises:
            WorkerError: the device does not answer for too long.
            StorageError: its disk is full.
            RequestError: it refuses the key, or the request.
            ConfigError: another device answers than before.
        """
        request = on_device(request)
        sent = {name: _Sent.of(path) for name, path in contents(request).items()}
        # what else the target says is nobody's business on the device
        target = request.target.model_copy(update={"address": "", "key_file": ""})
        ask = Ask(
            request=request.model_copy(update={"target": target}), limit_seconds=limit_seconds,
            fresh=fresh, files={name: file.offered for name, file in sent.items()},
        )  # fmt: skip
        by_digest = {file.offered.sha256: file.path for file in sent.values()}
        reply = self._patiently(lambda wire, welcome: self._answered(wire, ask, by_digest))
        if reply.no_room:
            raise self._full(reply.error)
        _check_answer(request, reply)
        return reply

    def close(self) -> None:
        """Nothing is held between two requests."""

    def _patiently(self, converse: Callable[[Wire, Welcome], T]) -> T:
        """Try again, ever more rarely, until the device answers or the time is up."""
        patience = _Patience(self._patience)
        while True:
            try:
                return self._connected(converse)
            except _BusyError:
                reason = "it measures for another job"
            except _BrokenOffError as error:
                reason = str(error)
                patience.broken_off()
            except OSError as error:
                reason = error.strerror or str(error)
            if patience.is_over:
                raise WorkerError(
                    f"{patience.ended(str(self._address))}: {reason}",
                    hint="start it there again (`autosparse agent`), then run the same command "
                    "with --resume: nothing finished is lost",
                )
            if not patience.was_told:
                patience.was_told = True
                self._tell(
                    f"the agent at {self._address} does not answer ({reason}); trying for "
                    f"{self._patience:.0f} s"
                )
            patience.pause()

    def _connected(self, converse: Callable[[Wire, Welcome], T]) -> T:
        with self._line.open() as wire:
            welcome = _read(wire, Welcome, WAIT_SECONDS)
            self._recognize(welcome.environment)
            try:
                return converse(wire, welcome)
            except OSError as error:
                raise _BrokenOffError(error.strerror or str(error)) from error

    def _recognize(self, environment: Environment) -> None:
        if self._environment is not None and environment != self._environment:
            raise ConfigError(
                f"the agent at {self._address} is not on the device, or not with the libraries, "
                "that this run began with",
                hint="run the same command with --resume: what was measured before counts for "
                "nothing there, and is measured anew",
            )

    def _answered(self, wire: Wire, ask: Ask, by_digest: dict[str, Path]) -> Reply:
        wire.send(ask.model_dump_json().encode())
        turn = _read(wire, Turn, WAIT_SECONDS)
        if turn.wanted is not None:
            with contextlib.suppress(ConnectionError):  # an agent that refuses says why, then goes
                _send_files(wire, turn.wanted, by_digest)
            turn = _read(wire, Turn, ask.limit_seconds + _GRACE_SECONDS)
        if turn.refused is not None:
            raise self._refusal(turn.refused)
        if turn.reply is None:
            raise RequestError(f"the agent at {self._address} answered nonsense")
        return turn.reply

    def _refusal(self, refused: Refused) -> Exception:
        told = f"the agent at {self._address} refuses: {refused.message}"
        if refused.kind == "busy":
            return _BusyError()
        if refused.kind == "room":
            return self._full(refused.message)
        return (TooLargeError if refused.kind == "large" else RequestError)(told)

    def _full(self, told: str) -> StorageError:
        return StorageError(
            f"the disk of the device at {self._address} is full: {told}",
            hint="make room there, then run the same command with --resume: nothing finished is "
            "lost",
        )


class _Patience:
    """For how long one request is tried.

    The time in which a device was there and at work does not count: where the connection breaks
    off then, waiting begins.

    Args:
        seconds: for how long in a row a device may be away.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._breaks = 0
        self._begin()

    def _begin(self) -> None:
        self._begun, self._pause = time.monotonic(), _FIRST_PAUSE
        self.was_told = False
        """Whether somebody knows that the device is being waited for."""

    def broken_off(self) -> None:
        """It was there until now."""
        self._breaks += 1
        if self._breaks <= _MOST_BREAKS:
            self._begin()

    @property
    def is_over(self) -> bool:
        """Whether the next try would be too late."""
        return time.monotonic() - self._begun + self._pause > self._seconds

    def pause(self) -> None:
        """Wait before the next try, ever longer."""
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def ended(self, address: str) -> str:
        """Why it is given up, in a sentence without its reason."""
        if self._breaks > _MOST_BREAKS:
            return f"the connection to the agent at {address} broke off {self._breaks} times"
        return f"the agent at {address} did not answer for {self._seconds:.0f} s"


class _Sent:
    """A file of the parcel, and what is said of it."""

    def __init__(self, path: Path, offered: FileOffered) -> None:
        self.path = path
        self.offered = offered

    @classmethod
    def of(cls, path: Path) -> _Sent:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path, FileOffered(size=file.tell(), sha256=digest))


def _send_files(wire: Wire, wanted: Wanted, by_digest: dict[str, Path]) -> None:
    for digest in wanted.digests:
        path = by_digest.get(digest)
        if path is None:
            raise RequestError("the agent asks for a file that was not offered")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                wire.send(chunk)


def _read(wire: Wire, kind: type[M], seconds: float) -> M:
    try:
        return kind.model_validate_json(wire.receive(REPLY_BYTES, seconds))
    except ValidationError as error:
        raise RequestError(
            "the agent answers in another form",
            hint="install the same version of AutoSparse on the device",
        ) from error


def _check_answer(request: MeasureRequest | ProfileRequest, reply: Reply) -> None:
    """What is stored as evidence must be about the very files that were sent.

    Raises:
        MeasurementError: it is about others.
    """
    if not isinstance(request, MeasureRequest) or reply.measurements is None:
        return
    asked = {label: file.to_model().sha256() for label, file in request.files.items()}
    told = {label: found.file_sha256 for label, found in reply.measurements.items()}
    if asked != told:
        raise MeasurementError("the agent timed other files than those that were sent")
