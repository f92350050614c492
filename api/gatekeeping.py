"""What every request passes: limits on its body, the host it names, and a line in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.file_store import too_large
from api.json_logs import about
from api.metrics import REQUESTS, SECONDS
from api.problem_answers import problem_response
from autosparse.errors import RequestError

_log = logging.getLogger("autosparse.access")
_UPLOADS = frozenset({"/v1/models", "/v1/datasets"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HOST_HEADER, _ORIGIN_HEADER = b"host", b"origin"


class Gatekeeper:
    """Middleware: refuses what is too long or meant for another host, and logs every request.

    Args:
        app: what is behind it.
        most_document_bytes: of the body of any request that is no upload.
        hosts: names by which the server may be asked for; empty for any. On loopback without
            keys, this keeps a web page elsewhere from reaching it through a name of its own; nor
            may it send requests to loopback, which its browser marks with where it comes from.
    """

    def __init__(self, app: ASGIApp, most_document_bytes: int, hosts: Collection[str]) -> None:
        self._app = app
        self._most = most_document_bytes
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _count(scope, status, time.monotonic() - started)
            await send(message)

        try:
            await self._pass(scope, receive, sending)
        finally:
            _log_request(scope, status, time.monotonic() - started)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        host = headers.get(_HOST_HEADER, b"").decode("latin-1")
        if self._hosts and _without_port(host) not in self._hosts:
            refused = RequestError(f"this server is not called {host!r}")
            await problem_response(refused)(scope, receive, send)
            return
        if self._hosts and not _is_own(headers.get(_ORIGIN_HEADER), host):
            refused = RequestError("a page of another site may not use this server")
            await problem_response(refused)(scope, receive, send)
            return
        if _is_upload(scope):
            await self._app(scope, receive, send)
            return
        body = await self._whole_body(receive)
        if body is None:
            error = too_large("the document", self._most)
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _whole_body(self, receive: Receive) -> bytes | None:
        """The body of a document; None where it is too long."""
        body: bytes = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return body
            body += message.get("body", b"")
            if len(body) > self._most:
                return None
            if not message.get("more_body", False):
                return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _is_own(origin: bytes | None, host: str) -> bool:
    """Whether a request comes from a page of this server, or from no page at all."""
    return origin is None or origin.decode("latin-1").partition("://")[2] == host


def _is_upload(scope: Scope) -> bool:
    """Whether the body is a file, or a part of one: those have limits of their own."""
    if scope["method"] == "PATCH":
        return bool(scope["path"].startswith("/v1/uploads/"))
    return bool(scope["method"] == "POST" and scope["path"] in _UPLOADS)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _count(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "none")
    # a method may be any word, and every one that was counted is kept for good
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUESTS.labels(method, route, str(status)).inc()
    SECONDS.labels(method, route).observe(seconds)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    """Who did what. No header is logged, so no key is."""
    client = scope.get("client") or ("", 0)
    told = about(
        method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4),
        key=scope.get("state", {}).get("caller"), client=client[0],
    )  # fmt: skip
    _log.info("request", extra=told)
