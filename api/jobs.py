"""Jobs as clients see and change them: told, cancelled, resumed, deleted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy import delete, select
from sqlalchemy.orm import Session, defer

from api.job_directory import FILE_FIELDS
from api.job_kinds import SEARCH, job_config
from api.job_ledger import add_event, best_record, best_records, locked, move
from api.job_request import OF_A_TARGET, check_names, label_of
from api.keys import Caller
from api.ownership import owned_row
from api.service import Service
from api.submission import check_quota
from api.tables import ForgottenRow, JobRow, JobUploadRow, ScheduleNeedRow
from api.trials import trial_info
from autosparse.client.records import ENDED, MAY_CHANGE, JobInfo
from autosparse.errors import ConfigError, ConflictError, NotFoundError, StorageError
from autosparse.evaluation import Verdict

# A manifest may have a megabyte, and a page has two hundred jobs.
UNLISTED = tuple(
    defer(column, raiseload=True) for column in (JobRow.manifest, JobRow.config, JobRow.concluded)
)
"""What a list of jobs does not tell, and is not read for one."""


class JobChanges(BaseModel):
    """What may be changed of a job at any time."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"priority": 10, "kept": True}]},
    )  # fmt: skip

    name: str | None = None
    """Another name, for people."""
    priority: int | None = None
    """Higher ones are begun first; of a job that runs, it means nothing."""
    kept: bool | None = None
    """Whether it stays however long ago it ended."""


def find_job(session: Session, caller: Caller, id_: str) -> JobRow:
    """A job of the caller's.

    Raises:
        NotFoundError: there is none, or it is another's: the answer does not tell which.
    """
    return owned_row(session, JobRow, caller, id_, "job")


def cancel_job(service: Service, caller: Caller, id_: str) -> JobInfo:
    """Stop a job: at once where it waits, within seconds where it runs.

    Raises:
        NotFoundError: as for `find_job`.
        ConflictError: it has ended.
    """
    with service.database.writing() as session:
        find_job(session, caller, id_)
        row = locked(session, id_)
        if row is None or row.state in ENDED:
            raise ConflictError(f"the job {id_} has ended", hint="there is nothing to cancel")
        cancel_row(session, row)
        return describe_job(session, row)


def cancel_row(session: Session, row: JobRow) -> None:
    """Cancel a job whose row is held; one that has ended stays as it is."""
    if row.state == "queued":
        row.cancel_requested = True
        move(session, row, "cancelled")
    elif row.state not in ENDED and not row.cancel_requested:
        row.cancel_requested = True
        add_event(session, row, "state", {"state": "cancelling"})


def change_job(service: Service, caller: Caller, id_: str, changes: JobChanges) -> JobInfo:
    """Change what does not concern its evidence: name, priority, and whether it is kept.

    Raises:
        NotFoundError: as for `find_job`.
        ConfigError: a value that is none.
    """
    given = {k: v for k, v in changes.model_dump(exclude_unset=True).items() if v is not None}
    label_of(given)
    with service.database.writing() as session:
        find_job(session, caller, id_)
        row = locked(session, id_)
        if row is None:
            raise NotFoundError(f"there is no job {id_}")
        for name, value in given.items():
            setattr(row, name, value)
        return describe_job(session, row)


def resume_job(
    service: Service, caller: Caller, id_: str, changes: Mapping[str, JsonValue]
) -> JobInfo:
    """Let an ended job go on where it was, perhaps asked for something else.

    Raises:
        NotFoundError: as for `find_job`.
        ConflictError: it has not ended.
        ConfigError: a change that is not possible, or wrong.
    """
    for name in changes:
        if name not in MAY_CHANGE:
            raise ConfigError(
                f"{name!r} cannot be changed in a job that was begun",
                hint=f"may be changed: {', '.join(MAY_CHANGE)}; submit a new job for the rest",
            )
    check_names(changes)
    with service.database.writing() as session:
        find_job(session, caller, id_)
        service.database.hold(session, caller.id)
        row = locked(session, id_)
        if row is None or row.state not in ENDED:
            raise ConflictError(f"the job {id_} has not ended", hint="cancel it first")
        check_quota(session, service, caller)
        if changes:
            row.request, row.config = _changed(service, row, changes)
        row.cancel_requested, row.attempts = False, 0
        row.verdict = row.problem = row.finished = row.concluded = row.not_before = None
        move(session, row, "queued")
        return describe_job(session, row)


def _changed(
    service: Service, row: JobRow, changes: Mapping[str, JsonValue]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Request and configuration of a job that is asked for something else from now on."""
    if row.kind != SEARCH:
        raise ConfigError(
            f"the job {row.id} is no search: nothing of it can be changed",
            hint="resume it without changes, or make a new one",
        )
    fields = {**row.request, **changes}
    fixed = {k: v for k, v in row.config.items() if k in (*FILE_FIELDS, *OF_A_TARGET)}
    return fields, job_config(fields, fixed, service.settings.max_time_limit)


def delete_job(service: Service, caller: Caller, id_: str) -> None:
    """Remove an ended job with everything that it delivered.

    Raises:
        NotFoundError: as for `find_job`.
        ConflictError: it has not ended, or something needs it.
    """
    with service.database.writing() as session:
        find_job(session, caller, id_)
        row = locked(session, id_)
        if row is None or row.state not in ENDED:
            raise ConflictError(f"the job {id_} has not ended", hint="cancel it first")
        needs = is_needed(session, id_)
        if needs is not None:
            raise ConflictError(f"{id_} is needed by {needs}", hint="delete or cancel that first")
        forget_row(session, row)
    # what cannot be removed now is written down, and removed later
    with contextlib.suppress(StorageError):
        forget_job(service, id_)


def forget_row(session: Session, row: JobRow) -> None:
    """Forget a job, and write down that its files are to be removed."""
    session.delete(row)
    session.add(ForgottenRow(job=row.id, since=time.time()))
    session.flush()


def forget_job(service: Service, id_: str) -> None:
    """Remove the files of a job that was forgotten, and then what was written down of it.

    Raises:
        StorageError: the artifacts' store is away; it stays written down.
    """
    service.files.forget_job(id_)
    if service.artifacts is not None:
        service.artifacts.remove(id_)
    if service.snapshots is not None:
        service.snapshots.remove(id_)
    with service.database.writing() as session:
        session.execute(delete(ForgottenRow).where(ForgottenRow.job == id_))


def is_needed(session: Session, id_: str) -> str | None:
    """The unfinished job that works on a job, or the schedule that comes back to it."""
    works_on = (JobUploadRow.upload == id_) & JobRow.state.not_in(ENDED)
    join = select(JobRow.id).join(JobUploadRow, JobUploadRow.job == JobRow.id)
    schedule = select(ScheduleNeedRow.schedule).where(ScheduleNeedRow.needed == id_)
    return session.scalar(join.where(works_on).limit(1)) or session.scalar(schedule.limit(1))


def describe_job(session: Session, row: JobRow) -> JobInfo:
    """A job as it is told."""
    return _described(row, best_record(session, row), row.manifest)


def describe_jobs(session: Session, rows: Sequence[JobRow]) -> tuple[JobInfo, ...]:
    """Jobs as they are listed, without their manifests."""
    best = best_records(session, rows)
    return tuple(_described(row, best.get(row.id), None) for row in rows)


def _described(
    row: JobRow, record: Mapping[str, Any] | None, manifest: dict[str, Any] | None
) -> JobInfo:
    cancelling = row.state == "running" and row.cancel_requested
    return JobInfo.model_validate(
        {
            "id": row.id, "kind": row.kind, "name": row.name,
            "state": "cancelling" if cancelling else row.state, "outcome": row.outcome,
            "kept": row.kept, "device": row.device, "ran_on": row.ran_on,
            "request": row.request, "priority": row.priority, "created": row.created,
            "started": row.started, "finished": row.finished, "attempts": row.attempts,
            "progress": row.progress, "verdict": row.verdict, "problem": row.problem,
            "exit_code": None if row.verdict is None else Verdict(row.verdict).exit_code,
            "best": None if record is None else trial_info(0, record),
            "manifest": manifest,
        }
    )  # fmt: skip
