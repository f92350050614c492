"""Delivered files in any store, whole and in parts; and what is removed by itself."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from sqlalchemy import select

from api import jobs
from api.artifact_store import ArtifactStore
from api.artifacts import ATLAS_DATA, artifacts_of
from api.inspection import Inspector
from api.retention import Retention
from api.tables import DeliveryRow, JobRow
from api.webhooks import WebhookRequest, make_webhook, send_test
from autosparse.errors import ConfigError, NotFoundError, StorageError
from tests.api.live_service import LiveService, live_service
from tests.api.queue_world import RESULT, QueueWorld, trial
from tests.api.schedule_world import ScheduleWorld, delivered_job
from tests.api.test_deliveries import REPORT, deliver

DAY = 86400.0


@pytest.fixture
def memory() -> Iterator[str]:
    """A place in fsspec's memory, of one's own."""
    url = f"memory://{uuid.uuid4()}/delivered"
    yield url
    fsspec.filesystem("memory").rm(url.rpartition("/")[0], recursive=True)


@pytest.fixture(params=["disk", "store"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, inspector: Inspector, memory: str
) -> Iterator[tuple[LiveService, str]]:
    """A service with a delivered bundle: in the job's directory, or in a store alone."""
    artifacts = memory if request.param == "store" else ""
    with live_service(tmp_path / "home", inspector, artifacts=artifacts) as live:
        owner = live.http.get("/v1/keys").json()["items"][0]["id"]
        job = delivered_job(live.service, owner)
        deliver(live, job)
        if live.service.artifacts is not None:
            directory = live.service.files.job(job)
            live.service.artifacts.put(job, artifacts_of(directory))
            live.service.files.forget_job(job)
        else:
            ArtifactStore(memory).put("unused", {})  # so that there is something to remove
        yield live, job


def test_files_are_listed_and_sent_whole_and_in_parts(served: tuple[LiveService, str]) -> None:
    live, job = served
    path = f"/v1/jobs/{job}/artifacts"
    listed = {item["name"]: item for item in live.http.get(path).json()["items"]}
    assert set(listed) == {"manifest.json", "report.html", "kernels/lib.so"}
    whole = live.http.get(f"{path}/report.html")
    assert whole.content == REPORT
    assert whole.headers["etag"] == f'"{hashlib.sha256(REPORT).hexdigest()}"'
    assert whole.headers["content-length"] == str(len(REPORT))
    assert live.http.get(f"{path}/report.htm").status_code == 404


PARTS: list[tuple[str, int, slice]] = [
    ("bytes=10-19", 206, slice(10, 20)),
    ("bytes=3000-", 206, slice(3000, None)),
    ("bytes=-100", 206, slice(-100, None)),
    ("bytes=0-99999999", 206, slice(0, None)),
    ("bytes=-99999999", 206, slice(0, None)),
    ("bytes=0-1,5-6", 200, slice(0, None)),
    ("lines=1-2", 200, slice(0, None)),
    ("bytes=-", 200, slice(0, None)),
    (f"bytes={len(REPORT)}-", 416, slice(0, 0)),
    ("bytes=9-3", 416, slice(0, 0)),
    ("bytes=-0", 416, slice(0, 0)),
]


@pytest.mark.parametrize("served", ["store"], indirect=True)
def test_parts_of_a_file(served: tuple[LiveService, str]) -> None:
    live, job = served
    path = f"/v1/jobs/{job}/artifacts/report.html"
    for asked, status, part in PARTS:
        answer = live.http.get(path, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, REPORT[part]), asked
        if status == 206:
            start, end, _ = part.indices(len(REPORT))
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(REPORT)}"
    tag = live.http.get(path).headers["etag"]
    for given, status in ((tag, 206), ('"another"', 200)):
        headers = {"Range": "bytes=1-2", "If-Range": given}
        assert live.http.get(path, headers=headers).status_code == status


def test_everything_as_one_file(served: tuple[LiveService, str]) -> None:
    """The same to the byte each time, so that a download that broke off can go on."""
    live, job = served
    path = f"/v1/jobs/{job}/bundle"
    answer = live.http.get(path)
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == [
            f"bundle/{name}" for name in ("kernels/lib.so", "manifest.json", "report.html")
        ]
        assert packed.read("bundle/report.html") == REPORT
    for made in (live.service.files.root / "archives").iterdir():
        made.unlink()
    rest = live.http.get(path, headers={"Range": "bytes=100-"})
    assert rest.content == answer.content[100:]
    assert live.http.get(path, headers=live.new_key()).status_code == 404


def test_a_deleted_job_leaves_nothing(served: tuple[LiveService, str]) -> None:
    live, job = served
    assert live.http.delete(f"/v1/jobs/{job}").status_code == 204
    if live.service.artifacts is not None:
        assert live.service.artifacts.list(job) == {}
    assert not live.service.files.job(job).exists()


def test_a_runner_copies_what_was_delivered(tmp_path: Path, memory: str) -> None:
    world = QueueWorld(tmp_path / "home", artifacts=memory)
    job = world.job([trial(1), "go", "die"], [trial(2), RESULT])
    with world.running():
        world.until(lambda: len(world.trials(job)) == 1)
        bundle = world.files.job(job) / "out"
        bundle.mkdir()
        (bundle / ATLAS_DATA).write_text("{}")  # whatever was delivered
        (world.files.job(job) / "go").touch()
        assert world.ended(job) == ["finished"]
    listed = ArtifactStore(memory).list(job)
    assert {name: one.size_bytes for name, one in listed.items()} == {ATLAS_DATA: 2}
    with ArtifactStore(memory).open(job, ATLAS_DATA) as file:
        assert file.read() == b"{}"
    world.database.close()


def test_what_is_half_copied_is_not_there(memory: str, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ATLAS_DATA).write_text("{}")
    store = ArtifactStore(memory)
    fs = type(fsspec.filesystem("memory"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no more room")

    with monkeypatch.context() as patch:
        patch.setattr(fs, "pipe_file", full)
        with pytest.raises(StorageError, match="no more room"):
            store.put("job_x", artifacts_of(tmp_path))
    assert store.list("job_x") == {}
    store.put("job_x", artifacts_of(tmp_path))
    assert set(store.list("job_x")) == {ATLAS_DATA}


def test_a_store_that_cannot_be_used_is_named() -> None:
    with pytest.raises(ConfigError, match="URL"):
        ArtifactStore("nosuch://x/y")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScheduleWorld]:
    made = ScheduleWorld(tmp_path / "home", keep_days=30.0)
    yield made
    made.queue.database.close()


def retained(world: ScheduleWorld, days: float) -> int:
    return Retention(world.service, lambda: time.time() + days * DAY).tick()


def test_jobs_that_ended_long_ago_are_removed(world: ScheduleWorld) -> None:
    (world.queue.files.job(world.source)).mkdir()
    assert retained(world, 29.0) == 0
    assert retained(world, 31.0) == 1
    assert not world.queue.files.job(world.source).exists()
    with pytest.raises(NotFoundError), world.queue.database.reading() as session:
        jobs.find_job(session, world.caller, world.source)


def test_what_is_kept_needed_or_at_work_stays(world: ScheduleWorld) -> None:
    schedule = world.make()
    assert retained(world, 31.0) == 0, "a schedule needs it"
    world.tick(1.0)
    with world.queue.database.writing() as session:
        session.delete(session.get_one(type(world.rows(schedule)[0]), world.rows(schedule)[0].id))
    assert retained(world, 31.0) == 0, "a job works on it"
    world.do()
    changes = jobs.JobChanges(kept=True, priority=7, name="the one")
    told = jobs.change_job(world.service, world.caller, world.source, changes)
    assert (told.kept, told.priority, told.name) == (True, 7, "the one")
    assert retained(world, 31.0) == 1, "the second measurement alone"
    assert [job.id for job in world.jobs()] == []


def test_without_a_rule_nothing_is_removed(tmp_path: Path) -> None:
    world = ScheduleWorld(tmp_path / "home")
    assert retained(world, 3650.0) == 0
    world.queue.database.close()


def test_old_deliveries_are_forgotten(world: ScheduleWorld) -> None:
    hook = make_webhook(world.service, world.caller, WebhookRequest(url="https://example.com/"))
    for state in ("waiting", "delivered", "failed"):
        id_ = send_test(world.service, world.caller, hook.id).id
        with world.queue.database.writing() as session:
            session.get_one(DeliveryRow, id_).state = state
    retained(world, 31.0)
    with world.queue.database.reading() as session:
        assert list(session.scalars(select(DeliveryRow.state))) == ["waiting"]


def test_jobs_are_filtered(live: LiveService) -> None:
    owner = live.http.get("/v1/keys").json()["items"][0]["id"]
    job = delivered_job(live.service, owner)
    again = live.http.post(f"/v1/jobs/{job}:reverify", json={"name": "100%_sure"})
    assert again.status_code == 202, again.text
    other = again.json()["id"]
    for query, expected in (
        ("kind=reverify", [other]), ("kind=search", [job]), ("verdict=met", [job]),
        ("state=queued&kind=search", []), ("name=0%25_s", [other]), ("name=%25%25", []),
        ("name=_", [other]), ("", [other, job]),
    ):  # fmt: skip
        found = live.http.get(f"/v1/jobs?{query}").json()["items"]
        assert [item["id"] for item in found] == expected, query
    assert live.http.get("/v1/jobs?kind=lost").status_code == 422
    assert live.http.patch(f"/v1/jobs/{job}", json={"state": "queued"}).status_code == 422
    assert live.http.patch(f"/v1/jobs/{job}", json={"priority": 10**9}).status_code == 422


def test_another_budget_over_http(live: LiveService) -> None:
    """A job of its own, given what the first one was, and a link to what that one measured."""
    owner = live.http.get("/v1/keys").json()["items"][0]["id"]
    job = delivered_job(live.service, owner)
    headers = {"Idempotency-Key": "once"}
    path = f"/v1/jobs/{job}:resolve"
    made = live.http.post(path, json={"latency_budget": "6ms"}, headers=headers)
    assert made.status_code == 202, made.text
    assert made.json()["kind"] == "resolve"
    assert made.json()["request"]["model"] == "mdl_source"
    again = live.http.post(path, json={"latency_budget": "6ms"}, headers=headers)
    assert again.json()["id"] == made.json()["id"]
    assert live.http.post(path, json={"latency_budget": "7ms"}, headers=headers).status_code == 409
    with live.service.database.reading() as session:
        config = session.get_one(JobRow, made.json()["id"]).config
    assert config["source"] == f"given/{job}"
    link = live.service.files.job(made.json()["id"]) / config["source"]
    assert link.resolve() == (live.service.files.job(job) / "out").resolve()
    for wrong in ({"source": "/"}, {"output_dir": "x"}, {"latency_budget": "fast"},
                  {"time_limit": "100h"}, {"model": "/etc/passwd"}, {"name": 7}):  # fmt: skip
        answer = live.http.post(path, json=wrong)
        assert answer.status_code == 422, (wrong, answer.text)
    assert live.http.post(f"/v1/jobs/{made.json()['id']}:resolve", json={}).status_code == 409
