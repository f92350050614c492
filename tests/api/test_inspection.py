"""Asking the inspecting process: whoever waits for a look keeps nobody else waiting."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from api import inspect_process
from api.inspection import Inspector
from autosparse.errors import ModelError, WorkerError
from tests.api.live_service import LIMITS, LiveService, listening
from tests.api.served import until

MANY = 50
"""More than there are threads for requests."""


def test_many_that_wait_for_a_look_keep_nobody_waiting(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    def slowly(*_: Any, **__: Any) -> Any:
        may_end.wait()
        raise ModelError("it is none")

    monkeypatch.setattr(Inspector, "inspect", slowly)
    incoming = live.service.files.root / "incoming"
    headers = {"Authorization": f"Bearer {live.key}"}
    with (
        listening(live.service) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60, limits=httpx.Limits()) as client,
        ThreadPoolExecutor(MANY) as pool,
    ):
        waiting = [pool.submit(client.post, "/v1/models", content=b"x") for _ in range(MANY)]
        try:
            until(lambda: len(list(incoming.glob("in_*"))) >= MANY)
            assert client.get("/healthz", timeout=20).status_code == 200
            assert client.get("/v1/jobs", timeout=20).json()["items"] == []
        finally:
            may_end.set()
        assert {one.result().status_code for one in waiting} == {422}
    assert list(incoming.iterdir()) == []


def asked(look: Callable[[int, int], object]) -> dict[str, Any]:
    """The answer where a fork does something of its own with its pipe, and with its parent's."""
    reading, answers = os.pipe()
    request = {"kind": "model", "limits": LIMITS.model_dump()}

    def taken_over(_request: Any, _limits: Any, writing: int, _parent: int) -> None:
        look(writing, answers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect_process, "_look", taken_over)
        answer = inspect_process._in_a_fork(json.dumps(request).encode(), answers)
    for pipe in (reading, answers):
        os.close(pipe)
    assert b"\n" not in answer
    told: dict[str, Any] = json.loads(answer)
    return told


@pytest.mark.parametrize(
    "said",
    [b'{"found": {}}\n{"found": {"of": "another"}}\n', b"[]", b"\xff", b"[" * 50_000, b" " * 99],
    ids=range(5),
)
def test_a_fork_cannot_answer_for_others(said: bytes) -> None:
    """Had it two lines, the second would be the answer to whoever asks next."""
    assert asked(lambda writing, _: os.write(writing, said)) == {
        "error": "limit", "message": "it cannot be read", "hint": "",
    }  # fmt: skip


def test_a_fork_that_talks_without_end_is_ended() -> None:
    def endlessly(writing: int, _: int) -> None:
        while True:
            os.write(writing, bytes(1 << 20))

    assert asked(endlessly)["error"] == "limit"


def test_a_fork_does_not_have_its_parents_pipes() -> None:
    def look(writing: int, answers: int) -> None:
        there = Path(f"/proc/self/fd/{answers}").is_symlink()
        found = {"input": os.readlink("/proc/self/fd/0"), "answers": there}
        os.write(writing, json.dumps({"found": found}).encode())

    assert asked(look) == {"found": {"input": "/dev/null", "answers": False}}


def test_where_they_cannot_leave_the_network_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.inspection.sys.executable", "true")
    for left in (True, False):
        line = json.dumps({"network_left": left}).encode()
        monkeypatch.setattr("api.inspection.read_line", lambda *_, line=line: line)
        caplog.clear()
        inspector = Inspector(LIMITS, tmp_path / "log.txt", slots=1)
        inspector.warm_up()
        inspector.close()
        assert ("leave the network" in caplog.text) is not left


def test_a_server_that_ends_waits_for_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is under way, and others wait for it; a look may take minutes."""
    real = subprocess.Popen

    def silent(_: Any, **kwargs: Any) -> Any:
        words = 'echo {\\"network_left\\": true}; exec sleep 600'
        return real(["sh", "-c", words], **kwargs)

    monkeypatch.setattr("api.inspection.subprocess.Popen", silent)
    inspector = Inspector(LIMITS, tmp_path / "log.txt", slots=1)
    with ThreadPoolExecutor(3) as pool:
        looks = [pool.submit(inspector.inspect, "model", path="x") for _ in range(3)]
        until(lambda: inspector._started)
        inspector.close()
        assert all(isinstance(look.exception(), WorkerError) for look in looks)
