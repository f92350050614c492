"""A service with a delivered job and a clock that tests turn."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select

from api import schedules
from api.cron import Cron
from api.event_hub import EventHub
from api.inspection import Inspector
from api.job_ledger import make_lane, take_job
from api.keys import SCOPES, Caller
from api.scheduler import Scheduler
from api.schedules import ScheduleRequest
from api.service import Service
from api.tables import JobRow, RunRow, ScheduleRow, UploadRow
from autosparse.client.schedule_records import RunInfo
from tests.api.live_service import LIMITS
from tests.api.queue_world import CONFIG, QueueWorld

SAMPLES = Path(__file__).parents[1] / "compat" / "samples"
FILES = ("model", "calibration", "validation")
HOUR = 3600.0
START = 1_795_000_000.0 - 1_795_000_000.0 % HOUR
"""A full hour: where the clock of these tests begins."""


def delivered_job(service: Service, owner: str) -> str:
    """A finished job with its uploads, as the database has them."""
    found: dict[str, Any] = {"entry": "model.onnx"}
    uploads = {"model": "mdl_source", "calibration": "dat_one", "validation": "dat_two"}
    manifest = json.loads((SAMPLES / "Manifest.v1.json").read_text())
    with service.database.writing() as session:
        for id_ in uploads.values():
            kind = "model" if id_.startswith("mdl") else "dataset"
            session.add(
                UploadRow(
                    id=id_, owner=owner, kind=kind, name="", sha256=id_ * 4, size_bytes=1,
                    created=time.time(), found=found,
                )
            )  # fmt: skip
        session.add(
            JobRow(
                id="job_source", owner=owner, name="", idempotency_key=None, request_digest="",
                state="finished", request={**uploads, "latency_budget": "60%"}, config={},
                priority=0, created=time.time(), started=None, finished=time.time(), attempts=0,
                cancel_requested=False, runner=None, lease_until=None, events=0, progress=None,
                best_recipe=None, verdict="met", problem=None, manifest=manifest, outcome=None,
            )
        )  # fmt: skip
    return "job_source"


class ScheduleWorld:
    """Schedules that measure a delivered bundle again, and what becomes of them."""

    def __init__(self, home: Path, url: str = "", **settings: Any) -> None:
        self.queue = QueueWorld(home, url, **settings)
        self.now = START
        database = self.queue.database
        inspector = Inspector(LIMITS, home / "inspector.log", slots=1)
        hub = EventHub(database)
        self.service = Service(self.queue.settings, database, self.queue.files, inspector, hub)
        self.caller = Caller(self.queue.owner, frozenset(SCOPES))
        self.source = delivered_job(self.service, self.queue.owner)

    def scheduler(self) -> Scheduler:
        """One that looks at the world's clock."""
        return Scheduler(self.service, lambda: self.now)

    def make(self, cron: str = "0 * * * *", **fields: Any) -> str:
        """A schedule that is due for the first time after the clock's start."""
        asked = ScheduleRequest(
            kind="reverify", cron=cron, request={"job": self.source}, **fields
        )  # fmt: skip
        made = schedules.make_schedule(self.service, self.caller, asked)
        with self.queue.database.writing() as session:
            row = session.get_one(ScheduleRow, made.id)
            row.next_due = Cron(cron, made.time_zone).next_after(self.now)
        return made.id

    def tick(self, hours: float = 0.0) -> int:
        """Let time pass, and the scheduler look; how many jobs it began."""
        self.now += hours * HOUR
        return self.scheduler().tick()

    def rows(self, schedule: str) -> list[RunRow]:
        """A schedule's runs as they are stored, the first due first."""
        with self.queue.database.reading() as session:
            mine = select(RunRow).where(RunRow.schedule == schedule)
            return list(session.scalars(mine.order_by(RunRow.due, RunRow.created)))

    def runs(self, schedule: str) -> list[RunInfo]:
        """The same as they are told."""
        with self.queue.database.reading() as session:
            return list(schedules.describe_runs(session, self.rows(schedule)))

    def jobs(self) -> list[JobRow]:
        """Every job but the source."""
        with self.queue.database.reading() as session:
            others = select(JobRow).where(JobRow.id != self.source).order_by(JobRow.created)
            return list(session.scalars(others))

    def do(self, **outcome: Any) -> str:
        """Take the next job and let it find something; its id."""
        make_lane(self.queue.database, "bench")
        lease = take_job(self.queue.database, "runner", "bench", 60.0, 5)
        assert lease is not None
        lease.end("finished", verdict=outcome.pop("verdict", "met"), outcome=outcome)
        return lease.job_id


def answerable_job(service: Service, owner: str, fields: Mapping[str, Any]) -> str:
    """The same with uploads that are there, so that an intake has nothing against another one."""
    job = delivered_job(service, owner)
    with service.database.writing() as session:
        row = session.get_one(JobRow, job)
        row.request = {**{name: fields[name] for name in FILES}, "latency_budget": "60%"}
        row.manifest = {**(row.manifest or {}), "config": {**CONFIG, "space": "int8"}}
    return job
