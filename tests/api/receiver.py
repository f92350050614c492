"""Somebody who is told things: an HTTP server on loopback that remembers what came."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """What came, and what is answered."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; 204 when they are used up."""
    drips: bool = False
    """Whether the answer comes a byte at a time and never ends."""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers, by small names, and bodies."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port."""
    known = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            known.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
            if known.drips:
                self._drip()
                return
            self.send_response(known.answers.pop(0) if known.answers else 204)
            self.send_header("Location", known.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _drip(self) -> None:
            self.close_connection = True
            try:
                for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
            except OSError:
                return  # whoever asked has had enough

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.url = f"http://127.0.0.1:{server.server_port}/told?by=us"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
