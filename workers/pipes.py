"""Reading what another process says on a pipe, for as long as one is willing to wait."""

from __future__ import annotations

import os
import selectors
import time
from typing import IO


def read_line(pipe: IO[bytes], limit_seconds: float) -> bytes | None:
    """One line; empty at the end of the pipe; None when the time is up."""
    end = time.monotonic() + limit_seconds
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not received.endswith(b"\n"):
            if not selector.select(timeout=max(0.0, end - time.monotonic())):
                return None
            chunk = os.read(pipe.fileno(), 1 << 20)
            if not chunk:
                return b""
            received += chunk
    return received
