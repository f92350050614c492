"""Requests that no honest client sends: every answer is a problem, nothing gets out, all go on."""

from __future__ import annotations

import io
import json
import re
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from api.app import create_app
from api.inspection import Inspector
from tests.api.live_service import LiveService, listening, live_service

TRAVERSALS = [
    "../../escaped", "/etc/passwd", "..\\..\\escaped", "%2e%2e%2fescaped", "a/../../b", "~root",
    "file:///etc/passwd", "\\\\server\\share", "$(touch escaped)", "a\x00b", "con", "." * 300,
]  # fmt: skip
INJECTIONS = ["x\r\nSet-Cookie: a=b", "x\nX-Injected: yes", "x\r\n\r\n<html>", "x\x85y", "x\u2028y"]
JSON = {"Content-Type": "application/json"}
DOCUMENTS = [
    b"[" * 200_000, b'{"a":' * 100_000,
    b'{"priority": ' + b"9" * 5000 + b"}", b'{"trials": NaN}',
    b'{"time_limit": Infinity}', b'{"name": "\\ud800"}', b'{"exclude": ["\\ud800"]}', b"\xff\xfe{}",
    b'{"exclude": ["a\\u0000b"]}', b'{"model": {"$ref": "#"}}', b'{"__proto__": {}}', b"null",
    b"[]",    b'"x"', b"", b"{", b'{"exclude": "(a+)+$"}', b'{"input_shape": {"x": [1e400]}}',
    b'{"priority": 1e99}', b'{"latency_budget": "9999999999999999999999%"}', b'{"name": 1}',
    b'{"keep": [null]}', b'{"model": "mdl_x", "model": "mdl_y"}', b"{}" * 9,
]  # fmt: skip


MISSING = "abc_" + "A" * 22


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, inspector: Inspector) -> Iterator[LiveService]:
    home = tmp_path_factory.mktemp("hostile") / "home"
    with live_service(home, inspector, max_document_bytes=1 << 20) as live:
        yield live


def operations(live: LiveService) -> list[tuple[str, str]]:
    """Every method and path, with an id of the right form that does not exist."""
    paths = create_app(live.service).openapi()["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", MISSING, path))
        for path, item in paths.items()
        for method in item
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_a_document_of_any_kind_is_answered(shared: LiveService, document: bytes) -> None:
    for method, path in operations(shared):
        if method == "POST":
            answer = shared.http.post(path, content=document, headers=JSON)
            assert 400 <= answer.status_code < 500, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"


def test_no_route_reads_more_than_a_document(shared: LiveService) -> None:
    """Announced or not, on any route and with any method."""
    most = shared.service.settings.max_document_bytes
    takes_files = {
        ("POST", "/v1/models"), ("POST", "/v1/datasets"), ("PATCH", f"/v1/uploads/{MISSING}"),
    }  # fmt: skip

    def in_pieces() -> Iterator[bytes]:
        for _ in range(most // 65536 + 1):
            yield bytes(65536)

    for method, path in operations(shared):
        if (method, path) in takes_files:
            continue
        for content in (bytes(most + 1), in_pieces()):
            answer = shared.http.request(method, path, content=content)
            assert answer.status_code == 413, (method, path)


AGAIN: dict[str, Any] = {
    "kind": "reverify", "cron": "0 3 * * *", "request": {"job": "job_x"},
}  # fmt: skip
PLACES: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "job": ("/v1/jobs", lambda name: {"name": name}),
    "key": ("/v1/keys", lambda name: {"name": name, "scopes": ["read"]}),
    "stored target": ("/v1/targets", lambda name: {"name": name}),
    "backend": ("/v1/targets", lambda name: {"name": "x", "backend": name}),
    "artifact": (f"/v1/jobs/job_{'A' * 22}/links", lambda name: {"artifact": name}),
    "levels": ("/v1/atlases", lambda name: {"model": "mdl_x", "levels": [name]}),
    "schedule": ("/v1/schedules", lambda name: {**AGAIN, "name": name}),
    "time_zone": ("/v1/schedules", lambda name: {**AGAIN, "time_zone": name}),
    "cron": ("/v1/schedules", lambda name: {**AGAIN, "cron": name}),
    "webhook": ("/v1/webhooks", lambda name: {"url": name}),
    "pending": ("/v1/uploads", lambda name: {"kind": "model", "size_bytes": 1, "name": name}),
}
"""Where a document takes a name, and such a document."""


def with_name(live: LiveService, field: str, name: str) -> Any:
    """Send a name in one of the places that take one."""
    if field in PLACES:
        path, document = PLACES[field]
        answer = live.http.post(path, json=document(name))
        if field == "pending" and answer.is_success:
            live.http.delete(answer.headers["location"])
        return answer
    if field in OF_A_JOB:
        return live.http.post("/v1/jobs", json={field: name})
    if field == "idempotency":
        headers = [(b"Idempotency-Key", name.encode("utf-8").replace(b"\0", b""))]
        return live.http.post("/v1/jobs", json={}, headers=headers)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        array = io.BytesIO()
        np.save(array, np.zeros(2))
        archive.writestr(zipfile.ZipInfo(name + ".npy"), array.getvalue())
    return live.upload("datasets", buffer.getvalue())


OF_A_JOB = (
    "space", "metric", "strategy", "recover", "calibration", "model", "exclude", "keep", "device",
    "target",
)  # fmt: skip
FIELDS = (*OF_A_JOB, *PLACES, "idempotency", "array")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", TRAVERSALS + INJECTIONS, ids=range(len(TRAVERSALS + INJECTIONS)))
def test_no_name_is_a_path_or_a_header(shared: LiveService, field: str, name: str) -> None:
    root = shared.service.files.root
    before = {path for path in root.parent.rglob("*") if not path.is_relative_to(root)}
    answer = with_name(shared, field, name)
    assert answer.status_code < 500, answer.text
    if field in ("space", "metric", "strategy", "recover"):
        assert answer.status_code == 422, answer.text
    assert "root:" not in answer.text
    assert not {"set-cookie", "x-injected"} & set(answer.headers)
    after = {path for path in root.parent.rglob("*") if not path.is_relative_to(root)}
    assert after == before


def raw(url: str, request: bytes, patience: float = 30.0) -> bytes:
    """What a server answers to bytes that no library would send, until it waits for more."""
    where = urlsplit(url)
    answer = b""
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        # it may have answered and closed before it was sent everything
        with suppress(ConnectionError):
            connection.sendall(request)
        connection.settimeout(patience)
        with suppress(ConnectionError, TimeoutError):
            while piece := connection.recv(65536):
                answer += piece
                connection.settimeout(0.5)
    return answer


@pytest.fixture(scope="module")
def url(shared: LiveService) -> Iterator[str]:
    with listening(shared.service) as address:
        yield address


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        (
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/keys HTTP/1.1\r\n\r\n"
        ),
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 500_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        b"GET /v1/jobs\r\nX-Injected: yes HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff%fe/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 4096,
    ],
    ids=range(11),
)
def test_bytes_that_are_no_request(shared: LiveService, url: str, request_: bytes) -> None:
    answer = raw(url, request_, patience=0.3)
    first = answer.split(b"\r\n", 1)[0]
    assert b" 200 " not in first or request_.startswith(b"GET /healthz HTTP/1.1\r\nX")
    assert b" 500 " not in first
    assert b"root:" not in answer
    assert answer.count(b"HTTP/1.1") <= 2
    assert raw(url, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_slow_clients_keep_nobody_waiting(shared: LiveService, url: str) -> None:
    """Requests that stop in the middle, and one who never reads what it asked for."""
    where = urlsplit(url)
    head = f"POST /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shared.key}\r\n"
    halves = [
        b"GET /v1/jobs HTTP/1.1\r\nHost:", b"G", b"",
        f"{head}Content-Length: 100000\r\n\r\n".encode() + b"x" * 1000,
        f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhel".encode(),
        b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200,
    ]  # fmt: skip
    incoming = shared.service.files.root / "incoming"
    with ExitStack() as stack:
        for half in halves * 15:
            slow = socket.create_connection((where.hostname, where.port), timeout=30)
            stack.enter_context(slow).settimeout(1)
            # a server that is not read from stops reading, and the rest cannot be sent
            with suppress(TimeoutError):
                slow.sendall(half)
        for _ in range(20):
            assert raw(url, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
        jobs = f"GET /v1/jobs HTTP/1.0\r\nAuthorization: Bearer {shared.key}\r\n\r\n"
        assert raw(url, jobs.encode()).startswith(b"HTTP/1.1 200")
    assert shared.upload("models", b"no model").status_code == 422
    for _ in range(500):
        if not list(incoming.iterdir()):
            break
        raw(url, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert list(incoming.iterdir()) == [], "what broke off is not kept"


def test_a_problem_quotes_only_text(shared: LiveService) -> None:
    """Whatever was sent, the answer is valid JSON, and says nothing of the server's inside."""
    for name in ("<script>", "\x1b[31m", "{{7*7}}", "'; DROP TABLE jobs; --"):
        answer = shared.http.post("/v1/jobs", json={name: 1})
        told = json.loads(answer.text)
        assert "Traceback" not in answer.text
        assert str(shared.service.files.root) not in answer.text
        assert told["status"] == answer.status_code == 422
    assert shared.http.get("/v1/jobs").status_code == 200
