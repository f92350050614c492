"""Ctrl-C: the first asks for the answer as it stands, the second ends the command at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from autosparse.pipeline.progress import Progress


@contextmanager
def answering_on_interrupt(answer_now: Event, progress: Progress) -> Iterator[None]:
    """Set the event at the first Ctrl-C.

    Raises:
        KeyboardInterrupt: at the second.
    """

    def interrupted(number: int, frame: FrameType | None) -> None:
        if answer_now.is_set():
            raise KeyboardInterrupt
        answer_now.set()
        progress.note(
            "interrupted: what is best so far is verified and delivered, and a training ends with "
            "the best that it has come to. Ctrl-C once more ends at once, and leaves that file as "
            "it was measured, not verified, in job/best. --resume goes on in either case"
        )

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
