"""A service is copied while it works, by the guide's own commands, and goes on from the copy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select

from api.database import Database
from api.inspection import Inspector
from api.job_ledger import add_event, locked
from api.tables import EventRow, JobRow
from tests.api.live_service import LiveService, job_fields, live_service
from tests.api.postgres import Postgres
from tests.api.queue_world import RESULT, QueueWorld, trial
from tests.api.schedule_world import delivered_job
from tests.api.test_deliveries import REPORT, deliver

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"
HOME, COPY = "autosparse-service", "backup"


def back_up(directory: Path) -> None:
    """Run the guide's commands where they expect to be run."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (commands,) = (block for block in blocks if "VACUUM INTO" in block)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e", "-c", commands], cwd=directory, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@contextmanager
def busy(database: Database, job: str) -> Iterator[None]:
    """Somebody writes all the while; what was written before and after is there both times."""
    stop, wrote = threading.Event(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            with database.writing() as session:
                row = locked(session, job)
                assert row is not None
                add_event(session, row, "note", {"text": "x" * 1000})
            wrote.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert wrote.wait(60.0)
        yield
    finally:
        stop.set()
        thread.join()


def told(live: LiveService, key: str, job: str, *paths: str) -> dict[str, Any]:
    """What a client of the first key sees: documents, and what a job delivered."""
    headers = {"Authorization": f"Bearer {key}"}

    def get(path: str) -> Any:
        answer = live.http.get(path, headers=headers)
        assert answer.status_code == 200, (path, answer.text)
        return answer

    seen = {path: get(path).json() for path in ("/v1/jobs", *paths)}
    for item in get(f"/v1/jobs/{job}/artifacts").json()["items"]:
        seen[item["name"]] = get(f"/v1/jobs/{job}/artifacts/{item['name']}").content
    return seen


def test_a_live_service_is_copied_and_serves_the_same(
    tmp_path: Path, inspector: Inspector, residual_model: Path
) -> None:
    with live_service(tmp_path / HOME, inspector) as live:
        fields = job_fields(live, residual_model, tmp_path)
        uploads = f"/v1/models/{fields['model']}", f"/v1/datasets/{fields['validation']}"
        waiting = live.http.post("/v1/jobs", json=fields).json()["id"]
        owner = live.http.get("/v1/keys").json()["items"][0]["id"]
        done = delivered_job(live.service, owner)
        deliver(live, done)
        with busy(live.service.database, waiting):
            back_up(tmp_path)
        before = told(live, live.key, done, *uploads)
    assert before["report.html"] == REPORT
    with live_service(tmp_path / COPY, inspector) as restored:
        assert told(restored, live.key, done, *uploads) == before
        given = restored.service.files.job(waiting) / "given" / "model"
        assert (given / "model.onnx").read_bytes() == residual_model.read_bytes()
        assert given.resolve().is_relative_to(tmp_path / COPY)
        with restored.service.database.reading() as session:
            row = session.get_one(JobRow, waiting)
            mine = select(func.count()).where(EventRow.job == row.id)
            assert row.events == session.scalar(mine) > 1


def test_a_job_that_ran_meanwhile_goes_on_from_the_copy(tmp_path: Path) -> None:
    world = QueueWorld(tmp_path / HOME)
    job = world.job([trial(1), "never"], [trial(2), RESULT])
    with world.running():
        world.until(lambda: len(world.trials(job)) == 1)
        back_up(tmp_path)
    world.database.close()
    restored = QueueWorld(tmp_path / COPY, device="another")
    assert restored.row(job).state == "running"
    restored.change(job, lease_until=0.0)  # it is over some day
    with restored.running():
        assert restored.ended(job) == ["finished"]
    assert restored.trials(job) == ["recipe1", "recipe2"]
    restored.database.close()


@pytest.mark.slow
def test_a_database_of_postgresql_is_dumped_and_restored(
    postgres: Postgres, tmp_path: Path
) -> None:
    world = QueueWorld(tmp_path / "home", postgres.url("dumped"))
    job = world.job([trial(1), RESULT])
    with world.running():
        world.ended(job)
    events = [(event.sequence, event.data) for event in world.events(job)]
    world.database.close()
    url = postgres.url("restored")
    postgres.copy("dumped", "restored")
    restored = QueueWorld(tmp_path / "home", url)
    assert [(event.sequence, event.data) for event in restored.events(job)] == events
    again = restored.job([RESULT])
    with restored.running():
        assert restored.ended(again) == ["finished"], "what counts by itself goes on counting"
    restored.database.close()


def test_copying_the_file_alone_would_lose_what_was_written_last(tmp_path: Path) -> None:
    """Why the guide does not: what is in the log beside the database is not in the database."""
    world = QueueWorld(tmp_path / HOME)
    job = world.job([RESULT])
    (tmp_path / "plain.sqlite3").write_bytes((tmp_path / HOME / "service.sqlite3").read_bytes())
    back_up(tmp_path)
    found = []
    for copy in (tmp_path / "plain.sqlite3", tmp_path / COPY / "service.sqlite3"):
        engine = create_engine(f"sqlite:///{copy}")
        with engine.connect() as connection:
            names = connection.exec_driver_sql(
                "SELECT count(*) FROM sqlite_master WHERE name = 'jobs'"
            ).scalar()
            asked = "SELECT count(*) FROM jobs" if names else "SELECT 0"
            found.append(connection.exec_driver_sql(asked).scalar())
        engine.dispose()
    assert found == [0, 1], job
    world.database.close()
