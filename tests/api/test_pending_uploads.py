"""Uploads in pieces: what arrived is kept, and goes on there."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.inspection import Inspector
from api.retention import Retention
from autosparse import Client
from autosparse.client import client as client_module
from autosparse.client import pieces
from autosparse.client.http import Transport
from autosparse.errors import (
    ConflictError,
    DataError,
    ServiceError,
    StorageError,
    WorkerError,
)
from tests.api.live_service import LiveService, listening, live_service, rows_file
from tests.api.served import until


def begin(live: LiveService, content: bytes, kind: str = "dataset", **headers: str) -> Any:
    asked = {"kind": kind, "name": "rows.npz", "size_bytes": len(content)}
    return live.http.post("/v1/uploads", json=asked, headers=headers)


def send(live: LiveService, path: str, offset: int, content: bytes, **headers: str) -> Any:
    told = {"Upload-Offset": str(offset), **headers}
    return live.http.patch(path, content=content, headers=told)


def left_over(live: LiveService) -> list[Path]:
    return list((live.service.files.root / "incoming").iterdir())


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return rows_file(tmp_path / "rows.npz")


def test_pieces_become_a_dataset(live: LiveService, content: bytes) -> None:
    made = begin(live, content)
    assert made.status_code == 201
    path, half = made.headers["location"], len(content) // 2
    assert send(live, path, 0, content[:half]).json()["received_bytes"] == half
    assert live.http.get(path).json()["received_bytes"] == half
    early = live.http.post(f"{path}:finish")
    assert early.status_code == 409
    assert str(half) in early.json()["detail"]
    assert send(live, path, 0, content).status_code == 409
    assert send(live, path, half, content[half:]).json()["received_bytes"] == len(content)
    done = live.http.post(f"{path}:finish")
    assert done.status_code == 201, done.text
    assert done.headers["location"] == f"/v1/datasets/{done.json()['id']}"
    assert done.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert live.http.get(done.headers["location"]).json() == done.json()
    assert live.http.get(path).status_code == 404
    assert left_over(live) == []


def test_more_than_was_announced_is_refused(live: LiveService, content: bytes) -> None:
    path = begin(live, content).headers["location"]
    assert send(live, path, 0, content + b"x").status_code == 413
    assert live.http.get(path).json()["received_bytes"] == len(content)
    assert live.http.post(f"{path}:finish").status_code == 201


def test_what_the_intake_refuses_is_gone(live: LiveService) -> None:
    path = begin(live, b"nothing").headers["location"]
    send(live, path, 0, b"nothing")
    refused = live.http.post(f"{path}:finish")
    assert refused.status_code == 422
    assert live.http.get(path).status_code == 404
    assert left_over(live) == []


def test_what_keeps_a_look_from_ending_costs_no_upload(
    live: LiveService, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inspecting process dies, or the disk is full: none of it is the file's fault."""
    path = begin(live, content).headers["location"]
    send(live, path, 0, content)
    for error in (WorkerError("it died"), StorageError("the disk is full")):

        def failing(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Inspector, "inspect", failing)
            assert live.http.post(f"{path}:finish").status_code in (503, 507)
        assert live.http.get(path).json()["received_bytes"] == len(content)
    done = live.http.post(f"{path}:finish")
    assert done.status_code == 201, done.text
    assert left_over(live) == []


def test_its_end_may_be_asked_for_again(live: LiveService, content: bytes) -> None:
    """An answer that was lost on its way is no upload that was lost."""
    path = begin(live, content).headers["location"]
    send(live, path, 0, content)
    first, second = (live.http.post(f"{path}:finish") for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    assert len(live.http.get("/v1/datasets").json()["items"]) == 1
    assert live.http.post(f"{path}:finish", headers=live.new_key()).status_code == 404
    live.http.delete(first.headers["location"])
    assert live.http.post(f"{path}:finish").status_code == 404


def test_given_up_it_is_forgotten(live: LiveService, content: bytes) -> None:
    path = begin(live, content).headers["location"]
    send(live, path, 0, content[:10])
    other = live.new_key()
    assert live.http.delete(path, headers=other).status_code == 404
    assert send(live, path, 10, b"x", **other).status_code == 404
    assert live.http.delete(path).status_code == 204
    assert live.http.get(path).status_code == 404
    assert left_over(live) == []


def test_left_alone_it_is_forgotten(live: LiveService, content: bytes) -> None:
    path = begin(live, content).headers["location"]
    (pending,) = left_over(live)
    pending.unlink()  # as the sweep does with what is a day old
    assert live.http.get(path).status_code == 404
    Retention(live.service).tick()
    assert live.http.delete(path).status_code == 404


def test_what_is_on_its_way_counts(tmp_path: Path, inspector: Inspector, content: bytes) -> None:
    size = len(content)
    with live_service(tmp_path / "home", inspector, max_stored_bytes=size + 10) as live:
        path = begin(live, content).headers["location"]
        assert begin(live, content).status_code == 429
        assert begin(live, content, **live.new_key()).status_code == 201
        assert live.upload("datasets", content).status_code == 429
        send(live, path, 0, content)
        assert live.http.post(f"{path}:finish").status_code == 201
    with live_service(tmp_path / "small", inspector, max_dataset_bytes=size - 1) as live:
        assert begin(live, content).status_code == 413
        assert left_over(live) == []


@pytest.mark.parametrize(
    "wrong", [{"kind": "target"}, {"size_bytes": 0}, {"name": "\x00"}, {"size_bytes": "many"}]
)
def test_what_is_wrong_is_refused(live: LiveService, wrong: dict[str, Any]) -> None:
    asked = {"kind": "dataset", "size_bytes": 5, **wrong}
    assert live.http.post("/v1/uploads", json=asked).status_code == 422


def test_of_a_piece_that_breaks_off_what_arrived_is_kept(live: LiveService, content: bytes) -> None:
    path = begin(live, content).headers["location"]
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {live.key}\r\n"
        f"Content-Length: {len(content)}\r\nUpload-Offset: 0\r\n\r\n"
    )
    with listening(live.service) as url:
        with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as connection:
            connection.sendall(head.encode() + content[:400])
            until(lambda: live.http.get(path).json()["received_bytes"] == 400)
            assert send(live, path, 400, content[400:]).status_code == 409, "it may go on"
        until(lambda: send(live, path, 400, content[400:]).status_code == 200)
    assert live.http.post(f"{path}:finish").status_code == 201


@pytest.fixture
def small(monkeypatch: Any) -> None:
    """Every file is a large one, and a piece is a thousand bytes."""
    monkeypatch.setattr(client_module, "LARGE_BYTES", 1)
    monkeypatch.setattr(pieces, "_PIECE", 1000)
    monkeypatch.setattr(Transport, "wait", lambda *_: None)


@pytest.mark.usefixtures("small")
def test_the_client_goes_on_where_it_was(
    live: LiveService, content: bytes, tmp_path: Path, monkeypatch: Any
) -> None:
    """Every third piece is lost on its way, and of every third the answer is."""
    sent: list[int] = []
    real = Transport.piece

    def flaky(self: Transport, path: str, offset: int, part: Iterator[bytes]) -> Any:
        sent.append(offset)
        if len(sent) % 3 == 1:
            raise ServiceError("lost")
        answer = real(self, path, offset, part)
        if len(sent) % 3 == 2:
            raise ServiceError("the answer is lost")
        return answer

    monkeypatch.setattr(Transport, "piece", flaky)
    with listening(live.service) as url, Client(url, live.key, tries=1) as client:
        made = client.upload_dataset(tmp_path / "rows.npz")
    assert made.sha256 == hashlib.sha256(content).hexdigest()
    assert len(sent) > len(content) / 1000
    assert len(set(sent)) == -(-len(content) // 1000), "each piece begins where one ended"


@pytest.mark.usefixtures("small")
def test_the_client_waits_for_a_look_whose_answer_was_lost(
    live: LiveService, tmp_path: Path, monkeypatch: Any, content: bytes
) -> None:
    real, asked = Transport.json, list[str]()

    def flaky(self: Transport, method: str, path: str, **parts: Any) -> Any:
        if not path.endswith(":finish"):
            return real(self, method, path, **parts)
        asked.append(path)
        if len(asked) < 3:
            raise ConflictError("it is looked into just now")
        return real(self, method, path, **parts)

    monkeypatch.setattr(Transport, "json", flaky)
    with listening(live.service) as url, Client(url, live.key, tries=1) as client:
        made = client.upload_dataset(tmp_path / "rows.npz")
    assert made.size_bytes == len(content)
    assert len(asked) == 3


@pytest.mark.usefixtures("small")
def test_the_client_gives_up_at_last(
    live: LiveService, content: bytes, tmp_path: Path, monkeypatch: Any
) -> None:
    def lost(*_: Any) -> None:
        raise ServiceError("lost")

    monkeypatch.setattr(Transport, "piece", lost)
    with (
        listening(live.service) as url,
        Client(url, live.key, tries=1) as client,
        pytest.raises(ServiceError, match="lost"),
    ):
        client.upload_dataset(tmp_path / "rows.npz")


@pytest.mark.usefixtures("small")
def test_the_client_tells_what_the_intake_says(live: LiveService, tmp_path: Path) -> None:
    (tmp_path / "no.npz").write_bytes(b"nothing")
    with (
        listening(live.service) as url,
        Client(url, live.key, tries=1) as client,
        pytest.raises(DataError, match="npz"),
    ):
        client.upload_dataset(tmp_path / "no.npz")


def test_what_is_arriving_is_listed(live: LiveService, content: bytes) -> None:
    """It counts for the room that its key has, so whoever looks for room has to see it."""
    first, second = (begin(live, content).json() for _ in range(2))
    begin(live, content, **live.new_key())
    send(live, f"/v1/uploads/{first['id']}", 0, content[:5])
    listed = live.http.get("/v1/uploads").json()["items"]
    received = [(one["id"], one["received_bytes"]) for one in listed]
    assert received == [(second["id"], 0), (first["id"], 5)]
    live.service.files.pending(second["id"]).unlink()
    assert live.http.get("/v1/uploads").json()["items"] == listed, "it counts until it is forgotten"
    page = live.http.get("/v1/uploads?limit=1").json()
    behind = live.http.get(f"/v1/uploads?after={page['next']}").json()
    assert (page["items"] + behind["items"], behind["next"]) == (listed, None)
    for one in listed:
        assert live.http.delete(f"/v1/uploads/{one['id']}").status_code == 204
    assert live.http.get("/v1/uploads").json() == {"items": [], "next": None}
