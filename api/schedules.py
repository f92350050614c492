"""Schedules as clients see and change them. `scheduler.py` is what begins their runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.cron import Cron
from api.database import new_id
from api.keys import Caller
from api.ownership import owned_row
from api.run_history import difference
from api.service import Service
from api.submission import check_request, check_there
from api.tables import JobRow, RunRow, ScheduleNeedRow, ScheduleRow
from api.uploads import check_name
from autosparse.client.schedule_records import Missed, Overlap, RunInfo, ScheduleInfo, ScheduleKind
from autosparse.errors import ConfigError, ConflictError, QuotaError

OPEN_RUNS = ("due", "starting", "started")
"""States of a run that has not ended."""
_MOST_SCHEDULES = 200


class ScheduleRequest(BaseModel):
    """What is to be done again and again."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {"name": "nightly check", "kind": "reverify", "cron": "0 3 * * *",
                 "time_zone": "Europe/Berlin",
                 "request": {"job": "job_7Rm3Kc9xWd5NqLf0HtVz2b", "tolerance": 0.1}},
            ]
        },
    )  # fmt: skip

    kind: ScheduleKind
    """search (again), reverify (measure a bundle again) or refresh_atlas."""
    cron: str
    """Minute, hour, day of month, month, day of week: `0 3 * * MON`."""
    time_zone: str = "UTC"
    """Name of the IANA database: `Europe/Berlin`."""
    request: dict[str, JsonValue]
    """What every run's job is asked. Of a search: the fields of a job. Of reverify: `job`, and
    perhaps `tolerance`. Of refresh_atlas: `model`, and perhaps `target`, `calibration`,
    `levels`."""
    name: str = ""
    """For people."""
    missed: Missed = "once"
    """What is done about times that passed while the service was down: skip them, make up for
    them once, or for all of them."""
    overlap: Overlap = "skip"
    """What is done where the former run has not ended: skip this one, queue it behind, or cancel
    the former one."""
    paused: bool = False
    """Whether to begin nothing until it is resumed."""


class ScheduleChanges(BaseModel):
    """What may be changed of a schedule; what is asked of its jobs stays."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"cron": "30 4 * * *", "missed": "skip"}]},
    )  # fmt: skip

    cron: str | None = None
    """Another time."""
    time_zone: str | None = None
    """Another time zone."""
    name: str | None = None
    """Another name."""
    missed: Missed | None = None
    """Another way with missed times."""
    overlap: Overlap | None = None
    """Another way with a former run that has not ended."""


def make_schedule(service: Service, caller: Caller, asked: ScheduleRequest) -> ScheduleInfo:
    """Keep a schedule whose job would be accepted now.

    Raises:
        UserInputError: what is wrong with it.
    """
    cron = Cron(asked.cron, asked.time_zone)
    _check_policies(asked.missed, asked.overlap)
    check_name(asked.name)
    needed = check_request(service, caller, asked.kind, asked.request)
    row = ScheduleRow(
        id=new_id("sch"), owner=caller.id, name=asked.name, kind=asked.kind,
        cron=cron.expression, time_zone=asked.time_zone, request=dict(asked.request),
        missed=asked.missed, overlap=asked.overlap, created=time.time(), paused=asked.paused,
        next_due=None if asked.paused else _next(cron, time.time()),
    )  # fmt: skip
    with service.database.writing() as session:
        mine = select(func.count()).select_from(ScheduleRow).where(ScheduleRow.owner == caller.id)
        if (session.scalar(mine) or 0) >= _MOST_SCHEDULES:
            raise QuotaError(f"the key has {_MOST_SCHEDULES} schedules", hint="delete some")
        session.add(row)
        session.flush()
        for id_ in sorted(needed):
            check_there(session, id_)
            session.add(ScheduleNeedRow(schedule=row.id, needed=id_))
    return describe_schedule(row)


def change_schedule(
    service: Service, caller: Caller, id_: str, changes: ScheduleChanges
) -> ScheduleInfo:
    """Change when a schedule is due, or what is done where that does not fit.

    Raises:
        NotFoundError: there is no such schedule of the caller's.
        ConfigError: a value that is none.
    """
    given = {k: v for k, v in changes.model_dump(exclude_unset=True).items() if v is not None}
    check_name(given.get("name", ""))
    with service.database.writing() as session:
        row = held_schedule(session, caller, id_)
        for name, value in given.items():
            setattr(row, name, value)
        _check_policies(row.missed, row.overlap)
        cron = Cron(row.cron, row.time_zone)
        row.cron = cron.expression
        if not row.paused and given.keys() & {"cron", "time_zone"}:
            row.next_due = _next(cron, time.time())
        return describe_schedule(row)


def pause_schedule(service: Service, caller: Caller, id_: str, *, paused: bool) -> ScheduleInfo:
    """Begin nothing more, or go on from now: what was due meanwhile was not missed.

    Raises:
        NotFoundError: there is no such schedule of the caller's.
    """
    with service.database.writing() as session:
        row = held_schedule(session, caller, id_)
        if row.paused != paused:
            row.paused = paused
            row.next_due = None if paused else _next(Cron(row.cron, row.time_zone), time.time())
        return describe_schedule(row)


def run_now(service: Service, caller: Caller, id_: str) -> RunInfo:
    """Let a schedule run once, whenever it is due. It may be paused.

    Raises:
        NotFoundError: there is no such schedule of the caller's.
        ConflictError: a run has not ended, and the schedule is not to queue another.
    """
    with service.database.writing() as session:
        row = held_schedule(session, caller, id_)
        former = session.scalar(open_runs(row.id).limit(1))
        if former is not None and row.overlap != "queue":
            raise ConflictError(
                f"the run {former.id} of the schedule has not ended",
                hint=f"wait, or cancel its job {former.job}" if former.job else "wait",
            )
        run = new_run(row, "hand", time.time())
        session.add(run)
        return describe_run(run, None, None)


def new_run(
    schedule: ScheduleRow, cause: str, due: float, *, state: str = "due", missed: int = 0,
    reason: str = "", now: float | None = None,
) -> RunRow:  # fmt: skip
    """A run that is to begin, or one that will not."""
    return RunRow(
        id=new_id("run"), schedule=schedule.id, cause=cause, due=due, missed=missed,
        created=time.time() if now is None else now, state=state, reason=reason,
        claimed_until=None, job=None, ended=None, outcome=None,
    )  # fmt: skip


def open_runs(schedule: str) -> Any:
    """The query for a schedule's runs that have not ended, the oldest first."""
    mine = select(RunRow).where(RunRow.schedule == schedule, RunRow.state.in_(OPEN_RUNS))
    return mine.order_by(RunRow.due)


def delete_schedule(service: Service, caller: Caller, id_: str) -> None:
    """Remove a schedule and its history; jobs that it began stay.

    Raises:
        NotFoundError: there is no such schedule of the caller's.
    """
    with service.database.writing() as session:
        session.delete(held_schedule(session, caller, id_))


def find_schedule(session: Session, caller: Caller, id_: str) -> ScheduleRow:
    """A schedule of the caller's.

    Raises:
        NotFoundError: there is none, or it is another's: the answer does not tell which.
    """
    return owned_row(session, ScheduleRow, caller, id_, "schedule")


def held_schedule(session: Session, caller: Caller, id_: str) -> ScheduleRow:
    """The same, and nobody else changes it until the session ends.

    Raises:
        NotFoundError: as for `find_schedule`.
    """
    row = find_schedule(session, caller, id_)
    session.refresh(row, with_for_update=True)
    return row


def describe_schedule(row: ScheduleRow) -> ScheduleInfo:
    """A schedule as it is told."""
    return ScheduleInfo.model_validate(
        {
            "id": row.id, "name": row.name, "kind": row.kind, "cron": row.cron,
            "time_zone": row.time_zone, "told": Cron(row.cron, row.time_zone).explain(),
            "request": row.request, "missed": row.missed, "overlap": row.overlap,
            "created": row.created, "paused": row.paused, "next_due": row.next_due,
        }
    )  # fmt: skip


def describe_runs(session: Session, rows: list[RunRow]) -> tuple[RunInfo, ...]:
    """Runs of one schedule as they are told, each with what is different from the one before."""
    told = []
    for row in rows:
        job = None if row.job is None else session.get(JobRow, row.job)
        told.append(describe_run(row, job, _before(session, row)))
    return tuple(told)


def describe_run(row: RunRow, job: JobRow | None, before: RunRow | None) -> RunInfo:
    """A run as it is told, with its job's state where that is still there."""
    outcome: Mapping[str, Any] = row.outcome or {}
    state = {"due": "starting", "started": "queued"}.get(row.state, row.state)
    if row.state == "ended":
        state = outcome.get("state", "finished")
    elif row.state == "started" and job is not None:
        state = job.state
    found = {k: v for k, v in outcome.items() if k not in ("state", "problem")}
    return RunInfo.model_validate(
        {
            "id": row.id, "cause": row.cause, "due": row.due, "missed": row.missed,
            "state": state, "reason": row.reason, "job": row.job, "ended": row.ended,
            "outcome": found or None, "problem": outcome.get("problem"),
            "difference": None if before is None else difference(row, before),
        }
    )  # fmt: skip


def _before(session: Session, row: RunRow) -> RunRow | None:
    """The last earlier run that found something, where this one did."""
    if not _found(row):
        return None
    earlier = (
        select(RunRow)
        .where(RunRow.schedule == row.schedule, RunRow.due < row.due)
        .where(RunRow.state == "ended")
        .order_by(RunRow.due.desc())
        .limit(20)
    )
    return next((run for run in session.scalars(earlier) if _found(run)), None)


def _found(row: RunRow) -> bool:
    return row.state == "ended" and (row.outcome or {}).get("state") == "finished"


def _next(cron: Cron, now: float) -> float:
    found = cron.next_after(now)
    if found is None:
        raise ConfigError(f"{cron.expression!r} is never due", hint="such a day does not exist")
    return found


def _check_policies(missed: str, overlap: str) -> None:
    if missed == "all" and overlap != "queue":
        raise ConfigError(
            f"missed: all times cannot be made up for where overlap is {overlap!r}",
            hint="with overlap: queue they wait for each other",
        )
