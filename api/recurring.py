"""Work that a server does beside its requests, again and again until it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from api.database import why_away
from autosparse.errors import StorageError

_log = logging.getLogger("autosparse.server")


@contextmanager
def recurring(name: str, work: Callable[[], object], seconds: float) -> Iterator[None]:
    """Do something in a thread of its own, with a rest in between, while the context is open.

    Args:
        name: of the thread, for the log.
        work: a database that is away or a disk that is full is no reason to give it up.
        seconds: the rest.
    """
    stop = threading.Event()

    def again() -> None:
        while not stop.is_set():
            try:
                work()
            except Exception as error:
                # Everything must be caught here: nobody would notice a thread that ended, and a
                # bug that one schedule or one webhook meets must not stop all the others for good.
                away = error.message if isinstance(error, StorageError) else why_away(error)
                if away is None:
                    _log.exception("%s: failed, and is tried again later", name)
                else:
                    _log.warning("%s: tried again later: %s", name, away)
            stop.wait(seconds)

    thread = threading.Thread(target=again, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
