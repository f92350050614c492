"""A server of the S3 protocol in this process, on loopback; what it stores outlives its stops."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

CREDENTIALS = {
    "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two",
}  # fmt: skip
_WHERE = "AWS_ENDPOINT_URL"
VARIABLES = frozenset({*CREDENTIALS, _WHERE})
"""All that the store's library has to be told."""


class S3Store:
    """A store that can be switched off and on again.

    Skips the test where its libraries are not installed.
    """

    def __init__(self) -> None:
        pytest.importorskip("s3fs", reason="s3fs is not installed")
        moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="moto is not installed")
        self._serving = pytest.importorskip("werkzeug.serving")
        self._application = moto.DomainDispatcherApplication(moto.create_backend_app)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self._server: Any = None
        self._thread = threading.Thread()
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that say where it listens, and who may come."""
        return {**CREDENTIALS, _WHERE: f"http://127.0.0.1:{self._port}"}

    def start(self) -> None:
        """Listen; what was stored before is there."""

        class Handler(self._serving.WSGIRequestHandler):  # type: ignore[misc,name-defined]
            protocol_version = "HTTP/1.0"  # a connection that stayed open would outlive a stop

            def log(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = self._serving.make_server(
            "127.0.0.1", self._port, self._application, threaded=True, request_handler=Handler
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None

    def close(self) -> None:
        """Stop it, if it is not stopped."""
        if self._server is not None:
            self.stop()
