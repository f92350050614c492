"""`autosparse.Client` against a listening service, and against connections that break."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autosparse import Client
from autosparse.client.records import JobInfo
from autosparse.client.server_events import read_events
from autosparse.errors import (
    BundleError,
    ConfigError,
    ConflictError,
    DataError,
    NotFoundError,
    ServiceError,
    StorageError,
    UnauthenticatedError,
)
from tests.api.live_service import LiveService, listening, rows_file
from tests.api.test_deliveries import deliver, end


@pytest.fixture
def client(live: LiveService) -> Iterator[Client]:
    with listening(live.service) as url, Client(url, live.key, tries=1) as made:
        yield made


def submit(client: Client, model: Path, directory: Path, **fields: Any) -> JobInfo:
    rows_file(directory / "rows.npz")
    rows_file(directory / "plain.npz", labels=False)
    return client.submit(
        model,
        calibration=directory / "plain.npz",
        validation=directory / "rows.npz",
        latency_budget="60%",
        space="int8",
        **fields,
    )


def test_submit_follow_fetch(
    client: Client, live: LiveService, residual_model: Path, tmp_path: Path
) -> None:
    job = submit(client, residual_model, tmp_path, name="first")
    assert (job.state, job.name) == ("queued", "first")
    assert [found.id for found in client.jobs()] == [job.id]
    seen: list[str] = []
    follower = threading.Thread(target=lambda: seen.extend(e.kind for e in client.events(job.id)))
    follower.start()
    deliver(live, job.id)
    end(live, job.id, notes=2)
    follower.join(30)
    assert seen == ["state", "state", "note", "note", "trial", "state"]
    done = client.wait(job.id)
    assert (done.state, done.verdict, done.exit_code) == ("finished", "met", 0)
    assert len(client.trials(job.id)) == len(client.pareto(job.id)) == 1
    bundle = client.fetch(job.id, tmp_path / "fetched" / "bundle")
    assert (bundle / "kernels" / "lib.so").read_bytes() == b"\x7fELF"
    with pytest.raises(StorageError, match="exists"):
        client.fetch(job.id, bundle)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
    client.delete(job.id)
    with pytest.raises(NotFoundError):
        client.job(job.id)


def test_ids_are_taken_as_they_are(client: Client, residual_model: Path, tmp_path: Path) -> None:
    first = submit(client, residual_model, tmp_path)
    again = client.submit(
        first.request["model"],
        calibration=first.request["calibration"],
        validation=first.request["validation"],
        latency_budget="50%",
    )
    assert again.request["model"] == first.request["model"]
    assert client.cancel(again.id).state == "cancelled"
    assert client.resume(again.id, latency_budget="40%").request["latency_budget"] == "40%"
    with pytest.raises(ConflictError):
        client.resume(first.id)


def test_a_target_file_is_sent_along(client: Client, residual_model: Path, tmp_path: Path) -> None:
    (tmp_path / "box.yaml").write_text("name: box\nthreads: 2\n")
    job = submit(client, residual_model, tmp_path, target=tmp_path / "box.yaml")
    assert job.request["target"].startswith("tgt_")
    (tmp_path / "box.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match="no target file"):
        submit(client, residual_model, tmp_path, target=tmp_path / "box.yaml")


def test_problems_are_our_errors(client: Client, classifier_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'image'"):
        submit(client, classifier_model, tmp_path)
    with pytest.raises(ConfigError, match="cannot read"):
        client.upload_model(tmp_path / "missing.onnx")
    with pytest.raises(ConfigError, match="is no id"):
        client.job("../keys")


def test_a_damaged_file_is_not_taken(
    client: Client, live: LiveService, residual_model: Path, tmp_path: Path
) -> None:
    job = submit(client, residual_model, tmp_path)
    with pytest.raises(BundleError, match="nothing"):
        client.fetch(job.id, tmp_path / "bundle")
    bundle = deliver(live, job.id)
    (bundle / "report.html").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"report\.html came damaged"):
        client.fetch(job.id, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".bundle")]


def test_a_wrong_key(live: LiveService) -> None:
    with (
        listening(live.service) as url,
        Client(url, "wrong") as client,
        pytest.raises(UnauthenticatedError),
    ):
        next(client.jobs())


JOB = {"id": "job_a", "state": "finished", "request": {}, "created": 0.0}


class Moody(BaseHTTPRequestHandler):
    """Answers as its script says; counts what it was asked."""

    script: list[tuple[int, dict[str, Any]]]
    asked: list[tuple[str, str, dict[str, str]]]

    def do_GET(self) -> None:
        self.asked.append((self.command, self.path, dict(self.headers)))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = self.script.pop(0) if self.script else (200, JOB)
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the base class's way of naming

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def moody() -> Iterator[tuple[str, type[Moody]]]:
    handler = type("Handler", (Moody,), {"script": [], "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()
        thread.join()


def patient(url: str, waits: list[float], tries: int = 5) -> Client:
    client = Client(url, "key", tries=tries)
    client._transport._sleep = waits.append
    return client


def test_what_may_pass_is_tried_again(moody: tuple[str, type[Moody]]) -> None:
    url, server = moody
    server.script += [(503, {}), (502, {}), (500, {})]
    waits: list[float] = []
    with patient(url, waits) as client:
        assert client.job("job_a").state == "finished"
    assert len(server.asked) == 4
    assert len(waits) == 3
    assert waits[2] > waits[0] > 0


def test_patience_ends(moody: tuple[str, type[Moody]]) -> None:
    url, server = moody
    server.script += [(503, {"detail": "no", "status": 503})] * 9
    waits: list[float] = []
    with patient(url, waits, tries=3) as client, pytest.raises(ServiceError, match="failed: no"):
        client.job("job_a")
    assert len(server.asked) == 3


def test_what_is_wrong_stays_wrong(moody: tuple[str, type[Moody]]) -> None:
    url, server = moody
    server.script += [(422, {"type": "urn:autosparse:problem:model", "detail": "bad"})]
    with patient(url, []) as client, pytest.raises(Exception, match="bad") as caught:
        client.job("job_a")
    assert type(caught.value).__name__ == "ModelError"
    assert len(server.asked) == 1


def test_a_submission_that_is_repeated_is_the_same(moody: tuple[str, type[Moody]]) -> None:
    url, server = moody
    server.script += [(503, {})]
    with patient(url, []) as client:
        client.submit("mdl_a", latency_budget="60%")
    keys = [headers["Idempotency-Key"] for _, _, headers in server.asked]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_nobody_there() -> None:
    waits: list[float] = []
    with (
        patient("http://127.0.0.1:9", waits, tries=2) as client,
        pytest.raises(ServiceError, match="cannot be reached"),
    ):
        client.job("job_a")
    assert len(waits) == 1


EVENT = '{"sequence": 1, "kind": "note", "at": 0.0, "data": {}}'


def test_a_stream_that_breaks_off_tells_whole_events_only() -> None:
    lines = [": hello", "id: 1", "event: note", f"data: {EVENT}", "", "id: 2", "data: {"]
    assert [event.sequence for event in read_events(lines)] == [1]
    with pytest.raises(ServiceError, match="none"):
        list(read_events(["data: {}", ""]))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", "a\\..\\x"])
def test_a_service_cannot_write_elsewhere(
    moody: tuple[str, type[Moody]], tmp_path: Path, name: str
) -> None:
    url, server = moody
    listed = {"items": [{"name": name, "size_bytes": 1, "sha256": "0" * 64}]}
    server.script += [(200, listed)]
    with patient(url, []) as client, pytest.raises(BundleError, match="outside"):
        client.fetch("job_a", tmp_path / "in" / "bundle")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_key_rotates_itself(client: Client, live: LiveService) -> None:
    mine = live.key.partition(".")[0]
    new = client.keys.rotate(mine)
    assert new.id == mine
    with pytest.raises(UnauthenticatedError):
        next(client.jobs())
    assert live.http.get("/v1/jobs", headers={"Authorization": f"Bearer {new.key}"}).is_success


def test_keys_are_made_listed_and_revoked(client: Client) -> None:
    made = client.keys.make("continuous integration")
    assert made.scopes == ("read", "submit")
    assert made.key.startswith(f"{made.id}.")
    assert made.key not in str(client.keys.list())
    assert client.keys.list()[0].id == made.id
    assert client.keys.revoke(made.id).revoked is not None
    with pytest.raises(ConflictError, match="last"):
        client.keys.revoke(client.keys.list()[1].id)
    with pytest.raises(ConfigError, match="no key's id"):
        client.keys.revoke("../jobs/job_a")
