"""Delivered files in any store, whole and in parts; and what is removed by itself."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile
from sqlalchemy import select

from api import jobs
from api.artifact_store import ArtifactStore
from api.artifacts import ATLAS_DATA, Artifact, artifacts_of
from api.inspection import Inspector
from api.retention import Retention
from api.tables import DeliveryRow, ForgottenRow, JobRow
from api.webhooks import WebhookRequest, make_webhook, send_test
from autosparse.errors import ConfigError, NotFoundError, StorageError
from tests.api.live_service import LiveService, live_service
from tests.api.queue_world import RESULT, QueueWorld, trial
from tests.api.schedule_world import ScheduleWorld, answerable_job, delivered_job
from tests.api.test_deliveries import REPORT, deliver

DAY = 86400.0


S3 = pytest.param("s3", marks=pytest.mark.slow)


@pytest.fixture(params=["disk", "memory", S3])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, inspector: Inspector
) -> Iterator[tuple[LiveService, str]]:
    """A service with a delivered bundle: in the job's directory, or in a store alone."""
    artifacts = "" if request.param == "disk" else request.getfixturevalue(request.param)
    with live_service(tmp_path / "home", inspector, artifacts=artifacts) as live:
        owner = live.http.get("/v1/keys").json()["items"][0]["id"]
        job = delivered_job(live.service, owner)
        deliver(live, job)
        if live.service.artifacts is not None:
            directory = live.service.files.job(job)
            live.service.artifacts.put(job, artifacts_of(directory))
            live.service.files.forget_job(job)
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


@pytest.mark.parametrize("served", ["memory", S3], indirect=True)
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
    with live.service.database.reading() as session:
        assert session.scalars(select(ForgottenRow)).all() == []


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
    with ArtifactStore(memory).open(job, ATLAS_DATA, listed[ATLAS_DATA].sha256) as file:
        assert file.read() == b"{}"
    world.database.close()


def delivering(directory: Path, text: str) -> dict[str, Artifact]:
    """What a job in this directory delivers: an atlas, whatever is in it."""
    (directory / "out").mkdir(exist_ok=True)
    (directory / "out" / ATLAS_DATA).write_text(text)
    return artifacts_of(directory)


def no_room(*_: Any, **__: Any) -> None:
    raise RuntimeError("no more room at store.internal")


@pytest.mark.parametrize("when", ["put_file", "pipe_file"])
def test_what_is_half_copied_is_not_there_and_what_was_there_stays(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    store, fs = ArtifactStore(memory), type(fsspec.filesystem("memory"))

    def read() -> list[bytes]:
        listed = store.list("job_x")
        found = []
        for name, one in listed.items():
            with store.open("job_x", name, one.sha256) as file:
                found.append(file.read())
        return found

    def try_in_vain(text: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(fs, when, no_room)
            with pytest.raises(StorageError, match="RuntimeError") as caught:
                store.put("job_x", delivering(tmp_path, text))
        assert "internal" not in caught.value.message, "where it is, is nobody's business"

    try_in_vain("{}")
    assert read() == []
    store.put("job_x", delivering(tmp_path, "{}"))
    try_in_vain('{"again": 1}')
    assert read() == [b"{}"]
    store.put("job_x", delivering(tmp_path, '{"again": 1}'))
    assert read() == [b'{"again": 1}']
    assert len(fsspec.filesystem("memory").find(memory)) == 2, "one file and the list"


def test_a_store_that_goes_away_while_it_is_read(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(memory)
    store.put("job_x", delivering(tmp_path, "x" * (5 << 20)))
    (one,) = store.list("job_x").values()
    with store.open("job_x", ATLAS_DATA, one.sha256) as file:
        assert file.seek(1 << 20) == 1 << 20
        assert file.read(3) == b"xxx"
        monkeypatch.setattr(MemoryFile, "read", no_room)
        with pytest.raises(StorageError, match="cannot be reached"):
            file.read()


def test_a_store_that_is_away_for_long_fails_no_job(
    tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has ended: it is done no second time, and nobody waits behind it."""
    for name, seconds in (("_AWAY_SECONDS", 0.01), ("_STORE_AWAY_SECONDS", 0.2)):
        monkeypatch.setattr(f"api.runner.{name}", seconds)
    world = QueueWorld(tmp_path / "home", artifacts=memory, max_attempts=2)
    job = world.job([trial(1), RESULT], ["die"])
    other = world.job([RESULT])
    delivering(world.files.job(job), "{}")
    fs = type(fsspec.filesystem("memory"))
    with world.running():
        with monkeypatch.context() as patch:
            patch.setattr(fs, "put_file", no_room)
            world.until(lambda: world.states(job).count("running") > 2)
            assert world.row(job).progress == {
                "stage": "deliver", "detail": "waits for the artifacts' store",
            }  # fmt: skip
            assert world.ended(other) == ["finished"]
        assert world.ended(job) == ["finished"]
    assert len(list(world.files.job(job).glob("attempt-*"))) == 1
    row = world.row(job)
    assert (row.verdict, row.manifest, row.concluded) == ("met", RESULT["manifest"], None)
    assert set(ArtifactStore(memory).list(job)) == {ATLAS_DATA}
    world.database.close()


def test_what_could_not_be_delivered_is_done_anew_when_it_is_resumed(
    tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.runner._AWAY_SECONDS", 0.05)
    world = ScheduleWorld(tmp_path / "home", artifacts=memory)
    queue = world.queue
    job = queue.job([trial(1), RESULT], [trial(2), RESULT])
    delivering(queue.files.job(job), "{}")
    with monkeypatch.context() as patch:
        patch.setattr(type(fsspec.filesystem("memory")), "put_file", no_room)
        with queue.running():
            queue.until(lambda: queue.row(job).not_before is not None)
            jobs.cancel_job(world.service, world.caller, job)
    assert jobs.resume_job(world.service, world.caller, job, {}).state == "queued"
    with queue.running():
        assert queue.ended(job) == ["finished"]
    assert queue.trials(job) == ["recipe1", "recipe2"]
    queue.database.close()


@pytest.mark.parametrize("served", ["memory"], indirect=True)
def test_a_store_that_is_away_keeps_nothing_for_ever(
    served: tuple[LiveService, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was deleted meanwhile is removed later, by whichever server."""
    live, job = served
    store = ArtifactStore(live.service.settings.artifacts)
    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "remove", no_store)
        assert live.http.delete(f"/v1/jobs/{job}").status_code == 204
        assert live.http.get(f"/v1/jobs/{job}").status_code == 404
        with pytest.raises(StorageError):
            Retention(live.service).tick()
    assert store.list(job) != {}
    Retention(live.service).tick()
    assert store.list(job) == {}
    with live.service.database.reading() as session:
        assert session.scalars(select(ForgottenRow)).all() == []


def no_store(*_: Any) -> None:
    raise StorageError("the store is away")


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


def test_another_budget_over_http(live: LiveService, fields: dict[str, Any]) -> None:
    """A job of its own, given what the first one was, and a link to what that one measured."""
    owner = live.http.get("/v1/keys").json()["items"][0]["id"]
    job = answerable_job(live.service, owner, fields)
    headers = {"Idempotency-Key": "once"}
    path = f"/v1/jobs/{job}:resolve"
    made = live.http.post(path, json={"latency_budget": "6ms"}, headers=headers)
    assert made.status_code == 202, made.text
    assert made.json()["kind"] == "resolve"
    assert made.json()["request"]["model"] == fields["model"]
    again = live.http.post(path, json={"latency_budget": "6ms"}, headers=headers)
    assert again.json()["id"] == made.json()["id"]
    assert live.http.post(path, json={"latency_budget": "7ms"}, headers=headers).status_code == 409
    with live.service.database.reading() as session:
        config = session.get_one(JobRow, made.json()["id"]).config
    assert config["source"] == f"given/{job}"
    link = live.service.files.job(made.json()["id"]) / config["source"]
    assert link.resolve() == (live.service.files.job(job) / "out").resolve()
    for wrong in ({"source": "/"}, {"output_dir": "x"}, {"latency_budget": "fast"},
                  {"time_limit": "100h"}, {"model": "/etc/passwd"}, {"name": 7},
                  {"keep": ["no_such_layer=dense:fp32"]}, {"exclude": ["no_such_layer"]},
                  {"max_drop": "1%", "keep": ["*=9:4:int8"]}):  # fmt: skip
        answer = live.http.post(path, json=wrong)
        assert answer.status_code == 422, (wrong, answer.text)
    assert live.http.post(f"/v1/jobs/{made.json()['id']}:resolve", json={}).status_code == 409
