"""Jobs as they are after something has happened to them, put there without running any."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from api.artifacts import ATLAS_DATA
from api.database import new_id
from api.job_ledger import JobLease, add_event, make_lane, move
from api.tables import (
    DeviceRow,
    EventRow,
    JobRow,
    JobUploadRow,
    ScheduleNeedRow,
    ScheduleRow,
    UploadRow,
)
from autosparse.artifacts.atlas_data import AtlasData
from autosparse.evaluation import read_environment
from autosparse.levels import Level
from autosparse.levels.table import Cell, LevelTable
from tests.api.live_service import LiveService
from tests.api.queue_world import CONFIG, record

RUNNER, DEVICE = "seeded", "test"


def add_job(live: LiveService, name: str, **more: Any) -> str:
    """A waiting job of the first key."""
    id_ = new_id("job")
    live.service.files.job(id_).mkdir()
    row = JobRow(
        id=id_, owner=live.key.partition(".")[0], name=name, idempotency_key=None,
        request_digest="", state="queued", request={"latency_budget": "60%"}, config=CONFIG,
        priority=0, created=1.0, started=None, finished=None, attempts=0, cancel_requested=False,
        runner=None, lease_until=None, events=0, progress=None, best_recipe=None, verdict=None,
        problem=None, manifest=None,
    )  # fmt: skip
    with live.service.database.writing() as session:
        session.add(row)
        session.flush()
        add_event(session, row, "state", {"state": "queued"})
        for field, value in more.items():
            setattr(row, field, value)
    return id_


def add_device(live: LiveService, name: str) -> str:
    """A device that the key offers to its own jobs only; its name."""
    row = DeviceRow(
        name=name, owner=live.key.partition(".")[0], shared=False, address="10.1.0.7:9190",
        secret="k" * 64, environment=read_environment().model_dump(mode="json"), joined=1.0,
        until=9e9,
    )  # fmt: skip
    with live.service.database.writing() as session:
        session.add(row)
    make_lane(live.service.database, name)
    return name


def add_upload(live: LiveService, id_: str, name: str, *jobs: str, size_bytes: int = 1) -> str:
    """A model or a dataset, as its id says, that some jobs need. Of its file there is nothing."""
    kind = "model" if id_.startswith("mdl_") else "dataset"
    found: dict[str, dict[str, Any]] = {
        "model": {"inputs": [], "outputs": [], "layers": 1}, "dataset": {"arrays": []},
    }  # fmt: skip
    row = UploadRow(
        id=id_, owner=live.key.partition(".")[0], kind=kind, name=name,
        sha256=id_.ljust(64, "0"), size_bytes=size_bytes, created=time.time(), found=found[kind],
    )  # fmt: skip
    with live.service.database.writing() as session:
        session.add(row)
        session.add_all(JobUploadRow(job=job, upload=id_) for job in jobs)
    return id_


def add_schedule(live: LiveService, id_: str, name: str, *needs: str) -> str:
    """A schedule that is due at three every night, and what it needs."""
    row = ScheduleRow(
        id=id_, owner=live.key.partition(".")[0], name=name, kind="reverify", cron="0 3 * * *",
        time_zone="UTC", request={"job": "job_none"}, missed="once", overlap="skip", created=1.0,
        paused=False, next_due=9e9,
    )  # fmt: skip
    with live.service.database.writing() as session:
        session.add(row)
        session.flush()
        session.add_all(ScheduleNeedRow(schedule=id_, needed=need) for need in needs)
    return id_


def begin(live: LiveService, job: str, **progress: Any) -> JobLease:
    """Let a job run, as far as anybody can see."""
    make_lane(live.service.database, DEVICE)
    with live.service.database.writing() as session:
        row = session.get_one(JobRow, job)
        move(session, row, "running")
        row.runner, row.lease_until, row.started = RUNNER, 9e9, 2.0
        row.progress = {"stage": "search", "detail": "evolution", **progress}
        add_event(session, row, "stage", {"stage": "search", "detail": ""})
    return JobLease(live.service.database, job, RUNNER, DEVICE)


def trial(number: int, ratio: float, drop: float, levels: dict[str, str]) -> dict[str, Any]:
    """A trial's record with a recipe of its own."""
    made = record(number)
    made["recipe"]["levels"] = levels
    made["evidence"] |= {"latency_ratio": ratio, "latency_ratio_high": ratio * 1.02}
    made["evidence"] |= {"drop": drop, "drop_high": drop + 0.004}
    made["latency_seconds"] = ratio * made["baseline_seconds"]
    return made


def set_times(live: LiveService, job: str, times: list[float]) -> None:
    """When each of a job's events happened, in order."""
    with live.service.database.writing() as session:
        mine = session.query(EventRow).filter(EventRow.job == job).order_by(EventRow.sequence)
        for event, at in zip(mine, times, strict=True):
            event.at = at


def table_of(live: LiveService, job: str, environment: str) -> Path:
    """Where a job's level table of an environment lies."""
    return live.service.files.job(job) / "out" / "job" / "level_table" / environment


def add_cells(
    live: LiveService, job: str, environment: str, layers: dict[str, dict[str, float | None]]
) -> None:
    """Build a job's level table: seconds of every level of every layer, None where it is barred."""
    table = LevelTable(table_of(live, job, environment))
    for layer, times in layers.items():
        for spelling, seconds in times.items():
            level = Level.parse(spelling)
            table.put(
                Cell(
                    layer=layer, level=level, searched=seconds is not None, seconds=seconds,
                    reason="" if seconds is not None else f"{layer}: 3 channels are too few",
                    sparsity=level.sparsity, divergence=level.sparsity / 100,
                )
            )  # fmt: skip


def deliver_atlas(live: LiveService, job: str, data: AtlasData) -> None:
    """Put an atlas where its job would."""
    out = live.service.files.job(job) / "out"
    out.mkdir(exist_ok=True)
    (out / ATLAS_DATA).write_text(data.model_dump_json(), encoding="utf-8")
