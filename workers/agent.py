"""The agent: measures on the device that it runs on, for whoever holds its key.

It needs no more of this project than the measuring process does: no torch, no Ray, no compiler.
One request is answered at a time; whoever comes meanwhile is told to come again.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from autosparse.errors import (
    KilledError,
    MeasurementError,
    RequestError,
    StorageError,
    TooLargeError,
    WorkerError,
    first_problem,
)
from workers.agent_messages import (
    CHUNK_BYTES,
    DOCUMENT_BYTES,
    WAIT_SECONDS,
    Ask,
    FileOffered,
    Refused,
    Turn,
    Wanted,
    Welcome,
)
from workers.agent_store import FileStore
from workers.asking_lane import AskingLane
from workers.messages import Reply
from workers.parcel import check_names, unpacked
from workers.wire import Wire, answer_handshake, notice_the_dead, refuse

_MOST_CONNECTIONS = 16
"""At once, of whoever has not said who they are, too."""
# What the system says of a connection that is lost already, or has no room for now
# (`accept` in the manual of Linux, under "Error handling").
_OF_ONE_CONNECTION = frozenset(
    {errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM,
     errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENETDOWN, errno.ENETUNREACH,
     errno.EHOSTDOWN, errno.EHOSTUNREACH}
)  # fmt: skip
_AGAIN_SECONDS = 0.2
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Agent:
    """Answers drivers one after the other.

    Args:
        key: what they must hold.
        lane: what measures.
        store: the scratch folder.
        longest_seconds: of one measurement, whatever the driver asks for.
        tell: told in a line what happens.
    """

    key: bytes
    lane: AskingLane
    store: FileStore
    longest_seconds: float
    tell: Tell
    _measuring: threading.Lock
    _hand: ThreadPoolExecutor
    """The thread that talks to the measuring process, which the system ends with the thread that
    started it."""

    @classmethod
    def make(
        cls, key: bytes, lane: AskingLane, store: FileStore, longest_seconds: float, tell: Tell
    ) -> Agent:
        """An agent that measures nothing yet."""
        hand = ThreadPoolExecutor(max_workers=1)
        return cls(key, lane, store, longest_seconds, tell, threading.Lock(), hand)

    def serve(self, listening: socket.socket) -> None:
        """Answer until the socket is closed or an exception comes from outside.

        Raises:
            OSError: nothing can come any more.
        """
        slots = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        for connection, peer in self._arrivals(listening):
            if slots.acquire(blocking=False):
                self._begin(connection, peer, slots)
            else:
                connection.close()

    def _arrivals(self, listening: socket.socket) -> Iterator[tuple[socket.socket, str]]:
        """Connections and where they come from; what goes wrong with one is not the last."""
        in_trouble = False
        while True:
            try:
                connection, peer = listening.accept()
            except OSError as error:
                if error.errno not in _OF_ONE_CONNECTION:
                    raise
                if not in_trouble:
                    self.tell(f"a connection was lost: {error.strerror}")
                in_trouble = True
                time.sleep(_AGAIN_SECONDS)
            else:
                in_trouble = False
                yield connection, f"{peer[0]}:{peer[1]}"

    def _begin(
        self, connection: socket.socket, peer: str, slots: threading.BoundedSemaphore
    ) -> None:
        thread = threading.Thread(target=self._attend, args=(connection, peer, slots), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads
            slots.release()
            self.tell(f"{peer}: turned away: {error}")
            connection.close()

    def _attend(
        self, connection: socket.socket, peer: str, slots: threading.BoundedSemaphore
    ) -> None:
        """One connection, from the greeting to the answer; whatever goes wrong ends it alone."""
        with connection:
            try:
                notice_the_dead(connection)
                self._converse(answer_handshake(connection, self.key), peer)
            except RequestError as error:
                self.tell(f"{peer}: refused: {error.message}")
                refuse(connection, error)
            except OSError as error:
                self.tell(f"{peer}: gone: {error.strerror or error}")
            finally:
                slots.release()

    def _converse(self, wire: Wire, peer: str) -> None:
        _send(wire, Welcome(environment=self.lane.environment()))
        try:
            ask = Ask.model_validate_json(wire.receive(DOCUMENT_BYTES, WAIT_SECONDS))
        except ValidationError as error:
            self._refuse(wire, peer, Refused(kind="request", message=first_problem(error)))
            return
        if not self._measuring.acquire(blocking=False):
            _send(wire, Turn(refused=Refused(kind="busy", message="another measurement runs")))
            return
        try:
            self._answer(wire, ask, peer)
        except TooLargeError as error:
            self._refuse(wire, peer, Refused(kind="large", message=str(error)))
        except WorkerError as error:
            self._refuse(wire, peer, Refused(kind="busy", message=error.message))
        except StorageError as error:
            self._refuse(wire, peer, Refused(kind="room", message=error.message))
        except RequestError as error:
            self._refuse(wire, peer, Refused(kind="request", message=error.message))
        finally:
            self._measuring.release()

    def _answer(self, wire: Wire, ask: Ask, peer: str) -> None:
        check_names(ask.request, ask.files)
        missing = self.store.missing(ask.files)
        _send(wire, Turn(wanted=Wanted(digests=tuple(file.sha256 for file in missing))))
        for file in missing:
            self.store.receive(file, _chunks(wire, file))
        begun = time.monotonic()
        reply = self._hand.submit(self._measured, ask).result()
        _send(wire, Turn(reply=reply))
        how = f"not measured: {reply.error}" if reply.error else "measured"
        self.tell(
            f"{peer}: {len(ask.files)} files, {len(missing)} of them new, {how}, "
            f"{time.monotonic() - begun:.1f} s"
        )

    def _measured(self, ask: Ask) -> Reply:
        limit = min(ask.limit_seconds, self.longest_seconds)
        with self.store.laid_out(ask.files) as directory:
            try:
                return self.lane.ask(unpacked(ask.request, directory), limit, fresh=ask.fresh)
            except KilledError as error:
                return Reply(error=error.message, killed=True)
            except MeasurementError as error:
                return Reply(error=error.message)

    def _refuse(self, wire: Wire, peer: str, refused: Refused) -> None:
        self.tell(f"{peer}: refused: {refused.message}")
        _send(wire, Turn(refused=refused))


def _chunks(wire: Wire, file: FileOffered) -> Iterator[bytes]:
    left = file.size
    while left > 0:
        chunk = wire.receive(min(left, CHUNK_BYTES), WAIT_SECONDS)
        if not chunk:
            raise RequestError("an empty piece of a file came")
        left -= len(chunk)
        yield chunk


def _send(wire: Wire, message: BaseModel) -> None:
    wire.send(message.model_dump_json().encode())
