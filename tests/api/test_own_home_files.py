"""Servers without a shared disk: each has the uploads it needs, shows what runs, and forgets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from api.inspection import Inspector
from api.retention import Retention, trim_copies
from api.service import Service
from api.snapshots import SnapshotMaker
from api.tables import JobRow, UploadRow
from api.upload_store import UploadStore
from autosparse.errors import StorageError
from tests.api.live_service import LiveService, job_fields, live_service, rows_file
from tests.api.queue_world import record
from tests.api.seeded import add_cells, add_job, begin
from tests.api.test_job_layers import HERE, TIMES
from tests.api.test_storage import no_room

DAY = 86400.0


@pytest.fixture
def servers(
    tmp_path: Path, memory: str, inspector: Inspector
) -> Iterator[tuple[LiveService, LiveService]]:
    """Two with one database and one store; the second one is asked with the first one's key."""
    shared: dict[str, Any] = {
        "database": f"sqlite:///{tmp_path / 'shared.sqlite3'}", "artifacts": memory,
        "own_home": True,
    }  # fmt: skip
    with (
        live_service(tmp_path / "one", inspector, **shared) as one,
        live_service(tmp_path / "two", inspector, **shared) as two,
    ):
        two.http.headers.update(one.http.headers)
        yield one, LiveService(two.service, two.http, one.key)


def stored(url: str, part: str) -> list[str]:
    fs, root = fsspec.core.url_to_fs(f"{url}/{part}")
    found: list[str] = fs.find(root)
    return found


def kept(live: LiveService, job: str) -> None:
    """Keep a job's files as a runner would, and forget the directory."""
    snapshots, directory = live.service.snapshots, live.service.files.job(job)
    assert snapshots is not None
    name = SnapshotMaker(snapshots, job, directory, "run_test", None).make()
    with live.service.database.writing() as session:
        session.get_one(JobRow, job).snapshot = name
    live.service.files.forget_job(job)


def test_a_job_is_accepted_where_its_uploads_are_not(
    servers: tuple[LiveService, LiveService], residual_model: Path, tmp_path: Path, memory: str
) -> None:
    """The intake reads them from the store, and whoever runs the job lays it out."""
    one, two = servers
    fields = job_fields(one, residual_model, tmp_path)
    made = two.http.post("/v1/jobs", json=fields)
    assert made.status_code == 202, made.text
    job = made.json()["id"]
    for live in servers:
        assert not live.service.files.job(job).exists()
    with two.service.database.reading() as session:
        row = session.get_one(JobRow, job)
    assert row.config["model"] == "given/model/model.onnx"
    # nobody has it any more
    assert one.http.post(f"/v1/jobs/{job}:cancel").status_code == 200
    assert two.http.delete(f"/v1/jobs/{job}").status_code == 204
    for field in ("model", "calibration", "validation"):
        kind = "models" if field == "model" else "datasets"
        assert one.http.delete(f"/v1/{kind}/{fields[field]}").status_code == 204
    assert stored(memory, "uploads") == []
    refused = two.http.post("/v1/jobs", json=fields)
    assert refused.status_code == 404


def test_copies_are_fetched_and_removed(
    servers: tuple[LiveService, LiveService], residual_model: Path, tmp_path: Path
) -> None:
    """Those that were not asked for lately go, and are fetched again."""
    one, two = servers
    fields = job_fields(one, residual_model, tmp_path)
    with one.service.database.reading() as session:
        model, data = (
            session.get_one(UploadRow, fields[field]).sha256 for field in ("model", "validation")
        )
    files = two.service.files
    assert not files.model(model).exists()
    assert (files.fetched_model(model) / "model.onnx").read_bytes() == residual_model.read_bytes()
    assert files.fetched_blob(data).read_bytes() == (tmp_path / "rows.npz").read_bytes()
    for copy, age in ((files.model(model), 8 * DAY), (files.blob(data), 6 * DAY)):
        os.utime(copy, (time.time() - age,) * 2)
    files.sweep()
    assert (files.model(model).exists(), files.blob(data).exists()) == (False, True)
    assert (files.fetched_model(model) / "model.onnx").is_file()


def used(copy: Path, hours_ago: float) -> None:
    os.utime(copy, (time.time() - hours_ago * 3600.0,) * 2)


@pytest.fixture
def copies(servers: tuple[LiveService, LiveService], tmp_path: Path) -> list[Path]:
    """Of three uploads of one size, in the home of the second server, the oldest first."""
    one, two = servers
    found = []
    for number in range(3):
        np.savez(tmp_path / "x.npz", x=np.full(100, number))
        made = one.upload("datasets", (tmp_path / "x.npz").read_bytes()).json()
        found.append(two.service.files.fetched_blob(made["sha256"]))
    for age, copy in zip((3.0, 2.0, 1.0), found, strict=True):
        used(copy, age)
    return found


def room_for_two(live: LiveService, copies: list[Path]) -> Service:
    """The server with room for two copies only."""
    most = 2 * copies[0].stat().st_size
    settings = live.service.settings.model_copy(update={"max_copy_bytes": most})
    return replace(live.service, settings=settings)


def test_copies_have_only_so_much_room(
    servers: tuple[LiveService, LiveService], copies: list[Path]
) -> None:
    """The one that was not used for the longest time goes, and is fetched when it is asked for."""
    service = room_for_two(servers[1], copies)
    trim_copies(service)
    assert [copy.exists() for copy in copies] == [False, True, True]
    service.files.fetched_blob(copies[0].name)
    trim_copies(service)
    assert [copy.exists() for copy in copies] == [True, False, True]
    for copy in (copies[0], copies[2]):
        service.files.fetched_blob(copy.name)
    service.files.fetched_blob(copies[1].name)
    trim_copies(service)
    assert all(copy.exists() for copy in copies), "all of them were fetched just now"


def test_a_copy_that_a_job_works_with_stays(
    servers: tuple[LiveService, LiveService], copies: list[Path]
) -> None:
    _, two = servers
    service, job = room_for_two(two, copies), add_job(two, "works")
    given = service.files.job(job) / "given"
    given.mkdir()
    (given / "calibration.npz").symlink_to(os.path.relpath(copies[0], given))
    lease = begin(two, job)
    trim_copies(service)
    assert [copy.exists() for copy in copies] == [True, False, True]
    service.files.fetched_blob(copies[1].name)
    used(copies[1], 1.5)
    lease.end("finished")
    trim_copies(service)
    assert [copy.exists() for copy in copies] == [False, True, True], "it has ended"


def test_a_copy_that_is_used_while_it_is_removed_stays(
    servers: tuple[LiveService, LiveService], copies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody finds it there at the last moment, and links to it."""
    service, real = room_for_two(servers[1], copies), Path.rename

    def late(path: Path, target: Path) -> Path:
        if path == copies[0]:
            os.utime(path)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", late)
    trim_copies(service)
    assert [copy.exists() for copy in copies] == [True, False, True]
    assert list((service.files.root / "incoming").iterdir()) == []


def test_an_upload_that_cannot_be_sent_is_none(
    servers: tuple[LiveService, LiveService],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: str,
) -> None:
    one, _ = servers
    data = rows_file(tmp_path / "rows.npz")
    with monkeypatch.context() as patch:
        patch.setattr(type(fsspec.filesystem("memory")), "put_file", no_room)
        answer = one.upload("datasets", data)
    assert (answer.status_code, answer.json()["retryable"]) == (507, False)
    assert one.http.get("/v1/datasets").json()["items"] == []
    assert stored(memory, "uploads") == []
    assert list((one.service.files.root / "incoming").iterdir()) == []
    assert one.upload("datasets", data).status_code == 201


def test_an_upload_that_nobody_sent_is_told(memory: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not in the artifacts' store") as caught:
        UploadStore(memory).fetch("0" * 64, tmp_path / "x")
    assert "--own-home" in caught.value.hint


def test_what_runs_elsewhere_is_shown(servers: tuple[LiveService, LiveService]) -> None:
    """Log and level table of a job whose directory is a runner's."""
    one, two = servers
    job = add_job(one, "elsewhere")
    assert two.http.get(f"/v1/jobs/{job}/logs").status_code == 404
    add_cells(one, job, HERE, TIMES)
    (one.service.files.job(job) / "log.txt").write_text("0.1s baseline\n")
    (one.service.files.job(job) / "out" / "weights.npz").write_bytes(bytes(1000))
    begin(one, job).trial(record(1), None)
    kept(one, job)
    for live in servers:
        assert live.http.get(f"/v1/jobs/{job}/logs").text == "0.1s baseline\n"
        items = live.http.get(f"/v1/jobs/{job}/layers").json()["items"]
        assert [item["name"] for item in items] == ["conv", "fc"]
        (view,) = (live.service.files.root / "views").iterdir()
        assert not list(view.rglob("weights.npz")), "only what is shown is fetched"


def test_what_is_kept_goes_with_the_job(
    servers: tuple[LiveService, LiveService], monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    """Also where the store was away when it was deleted."""
    one, two = servers
    job = add_job(one, "to be deleted")
    (one.service.files.job(job) / "log.txt").write_text("begins\n")
    kept(one, job)
    assert one.http.post(f"/v1/jobs/{job}:cancel").status_code == 200
    assert stored(memory, "snapshots") != []
    with monkeypatch.context() as patch:
        patch.setattr(type(fsspec.filesystem("memory")), "rm", no_room)
        assert two.http.delete(f"/v1/jobs/{job}").status_code == 204
    assert stored(memory, "snapshots") != []
    Retention(one.service).tick()
    assert stored(memory, "snapshots") == []


def test_copies_of_what_has_ended_are_removed(servers: tuple[LiveService, LiveService]) -> None:
    """They are in the store; what is at work, or is needed for work, stays."""
    one, _ = servers
    ended, waits = add_job(one, "ended"), add_job(one, "waits")
    (one.service.files.root / "jobs" / "job_of_nobody").mkdir()
    assert one.http.post(f"/v1/jobs/{ended}:cancel").status_code == 200
    Retention(one.service).tick()
    assert one.service.files.job(ended).exists(), "it may be resumed soon"
    Retention(one.service, lambda: time.time() + 2 * DAY).tick()
    left = {path.name for path in (one.service.files.root / "jobs").iterdir()}
    assert left == {waits}
