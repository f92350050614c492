"""A service in the test's own process, and a client that talks to it without a network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.testclient import TestClient

from api.app import create_app
from api.inspection import Inspector
from api.keys import SCOPES, make_key
from api.server import opened
from api.service import Service
from api.settings import IntakeLimits, ServerSettings
from tests.models import images

# Small, so that what is too much is small, too.
LIMITS = IntakeLimits(cpu_seconds=20, wall_seconds=40, memory_bytes=1 << 30, file_bytes=64 << 20)
BUDGET = {"latency_budget": "1000%", "max_drop": "100pt", "space": "int8"}


@dataclass(frozen=True)
class LiveService:
    """A service, and how to speak to it."""

    service: Service
    http: TestClient
    key: str

    def new_key(self, *scopes: Any) -> dict[str, str]:
        """The header of another key."""
        made = make_key(self.service.database, "another", scopes or SCOPES)
        return {"Authorization": f"Bearer {made.key}"}

    def upload(self, kind: str, content: bytes, **headers: str) -> Any:
        """Upload to `/v1/KIND`, with the first key unless a header says otherwise."""
        return self.http.post(f"/v1/{kind}", content=content, headers=headers)


@contextmanager
def live_service(home: Path, inspector: Inspector | None = None, **settings: Any) -> Iterator[Any]:
    """A service below `home`.

    Args:
        home: an empty directory.
        inspector: shared by several services, since one takes seconds to start.
        **settings: beyond the usual.
    """
    given = {"home": home, "device": "test", "intake": LIMITS, **settings}
    with opened(ServerSettings.model_validate(given)) as own:
        service = own if inspector is None else with_inspector(own, inspector)
        key = make_key(service.database, "first", SCOPES).key
        headers = {"Authorization": f"Bearer {key}"} if service.settings.keys else {}
        app = create_app(service)
        base = "http://localhost"
        with TestClient(app, base, headers=headers, raise_server_exceptions=False) as http:
            yield LiveService(service, http, key)


def with_inspector(service: Service, inspector: Inspector) -> Service:
    """The same service with a shared inspector."""
    return replace(service, inspector=inspector)


def rows_file(path: Path, rows: int = 8, *, labels: bool = True) -> bytes:
    """An npz for the residual model."""
    arrays: dict[str, Any] = {"image": images(rows)}
    if labels:
        arrays["labels"] = np.arange(rows) % 10
    np.savez(path, **arrays)
    return path.read_bytes()


def job_fields(live: LiveService, model: Path, directory: Path, **more: Any) -> dict[str, Any]:
    """A job that would be accepted, its files uploaded."""
    data = live.upload("datasets", rows_file(directory / "rows.npz"))
    plain = live.upload("datasets", rows_file(directory / "plain.npz", labels=False))
    uploaded = live.upload("models", model.read_bytes())
    assert (data.status_code, plain.status_code, uploaded.status_code) == (201, 201, 201)
    return {
        "model": uploaded.json()["id"], "calibration": plain.json()["id"],
        "validation": data.json()["id"], **BUDGET, **more,
    }  # fmt: skip


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """The service on a port of loopback; its address."""
    config = uvicorn.Config(create_app(service), port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # who comes before the server is there waits for it
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
