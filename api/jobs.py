"""Jobs as clients see and change them: accepted after an intake, cancelled, resumed, deleted."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.database import new_id
from api.file_store import MODEL_FILE
from api.job_ledger import add_event, best_record, locked, move
from api.job_request import (
    DATASET_FIELDS,
    MAY_CHANGE,
    MODEL_FIELD,
    TARGET_FIELD,
    check_names,
    digest_of,
    label_of,
    read_job,
)
from api.keys import Caller
from api.service import Service
from api.tables import JobRow, JobUploadRow, TrialRow, UploadRow
from api.uploads import DATASET, MODEL, find_target, find_upload
from autosparse.client.records import ENDED, JobInfo, TrialInfo
from autosparse.errors import ConfigError, ConflictError, NotFoundError, QuotaError
from autosparse.evaluation import Target, Verdict
from autosparse.journal import stored_safely
from autosparse.pipeline.config import JobConfig

_GIVEN = Path("given")


def accept_job(
    service: Service, caller: Caller, fields: Mapping[str, JsonValue], idempotency_key: str | None
) -> tuple[JobInfo, bool]:
    """Check a job as its own intake would, and put it in the queue.

    Returns:
        The job, and whether it is new: the same idempotency key leads to the same job.

    Raises:
        UserInputError: what is wrong with it; nothing is kept then.
    """
    check_names(fields)
    label_of(fields)
    before = _same_request(service, caller, fields, idempotency_key)
    if before is not None:
        return before, False
    id_ = new_id("job")
    with ExitStack() as undo:
        undo.callback(service.files.forget_job, id_)
        row, needed = _prepared(service, caller, fields, id_)
        row.idempotency_key = idempotency_key
        try:
            accepted = _store(service, caller, row, needed)
        except IntegrityError:
            before = _same_request(service, caller, fields, idempotency_key)
            if before is None:
                raise
            return before, False
        undo.pop_all()
    return accepted, True


def _store(service: Service, caller: Caller, row: JobRow, needed: set[str]) -> JobInfo:
    """Put a job into the queue, where its key may have one more and its uploads are there."""
    with service.database.writing() as session:
        service.database.hold(session, caller.id)
        _check_quota(session, service, caller)
        session.add(row)
        session.flush()
        for upload in sorted(needed):
            _still_there(session, caller, upload)
            session.add(JobUploadRow(job=row.id, upload=upload))
        add_event(session, row, "state", {"state": "queued"})
        return describe_job(session, row)


def _prepared(
    service: Service, caller: Caller, fields: Mapping[str, JsonValue], id_: str
) -> tuple[JobRow, set[str]]:
    """The job's directory with what it was given, and its row; the intake has nothing against."""
    with stored_safely(service.files.job(id_)):
        paths, needed = _lay_out(service, caller, fields, service.files.job(id_))
    config = read_job(fields, paths, service.settings.max_time_limit)
    _check_intake(service, id_, config)
    name, priority = label_of(fields)
    row = JobRow(
        id=id_, owner=caller.id, name=name, idempotency_key=None,
        request_digest=digest_of(fields), state="queued", request=dict(fields),
        config=_stored(config), priority=priority, created=time.time(), started=None,
        finished=None, attempts=0, cancel_requested=False, runner=None, lease_until=None,
        events=0, progress=None, best_recipe=None, verdict=None, problem=None, manifest=None,
    )  # fmt: skip
    return row, needed


def _stored(config: JobConfig) -> dict[str, Any]:
    """Only what was given: a target file contradicts no default."""
    return config.model_dump(mode="json", exclude_unset=True)


def _lay_out(
    service: Service, caller: Caller, fields: Mapping[str, JsonValue], directory: Path
) -> tuple[dict[str, str], set[str]]:
    """Put links to the uploads into the job's directory, under names of our own."""
    given = directory / _GIVEN
    given.mkdir(parents=True, mode=0o700)
    paths: dict[str, str] = {}
    needed: set[str] = set()
    with service.database.reading() as session:
        for field in (MODEL_FIELD, *DATASET_FIELDS, TARGET_FIELD):
            id_ = fields.get(field)
            if id_ is None:
                continue
            if not isinstance(id_, str):
                raise ConfigError(f"{field}: give the id of an upload")
            paths[field] = str(_GIVEN / _place(service, session, caller, field, id_, given))
            needed.add(id_)
    return paths, needed


def _place(
    service: Service, session: Session, caller: Caller, field: str, id_: str, given: Path
) -> Path:
    """Put one upload there; its path below `given`."""
    if field == TARGET_FIELD:
        target = Target.model_validate(find_target(session, caller, id_).document)
        (given / "target.yaml").write_text(target.to_yaml(), encoding="utf-8")
        return Path("target.yaml")
    if field == MODEL_FIELD:
        row = find_upload(session, caller, MODEL, id_)
        _link(service.files.model(row.sha256), given / "model")
        return Path("model") / str(row.found.get("entry", MODEL_FILE))
    row = find_upload(session, caller, DATASET, id_)
    _link(service.files.blob(row.sha256), given / f"{field}.npz")
    return Path(f"{field}.npz")


def _link(source: Path, place: Path) -> None:
    place.symlink_to(os.path.relpath(source, place.parent))


def _check_intake(service: Service, id_: str, config: JobConfig) -> None:
    directory = service.files.job(id_)
    scratch = service.files.incoming()
    try:
        service.inspector.inspect(
            "job", directory=str(directory), scratch=str(scratch), config=_stored(config)
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _same_request(
    service: Service, caller: Caller, fields: Mapping[str, JsonValue], key: str | None
) -> JobInfo | None:
    if key is None:
        return None
    with service.database.reading() as session:
        mine = select(JobRow).where(JobRow.owner == caller.id, JobRow.idempotency_key == key)
        row = session.scalar(mine)
        if row is None:
            return None
        if row.request_digest != digest_of(fields):
            raise ConflictError(
                f"the idempotency key {key!r} was used for another job, {row.id}",
                hint="take a new key for a new job",
            )
        return describe_job(session, row)


def _check_quota(session: Session, service: Service, caller: Caller) -> None:
    mine = JobRow.owner == caller.id
    open_jobs = session.scalar(
        select(func.count()).select_from(JobRow).where(mine, JobRow.state.not_in(ENDED))
    )
    if (open_jobs or 0) >= service.settings.max_unfinished_jobs:
        raise QuotaError(
            f"the key has {open_jobs} unfinished jobs", hint="wait for some, or cancel them"
        )


def _still_there(session: Session, caller: Caller, id_: str) -> None:
    """An upload may have been deleted while the intake looked at it."""
    if id_.startswith("tgt_"):
        find_target(session, caller, id_)
    elif session.get(UploadRow, id_) is None:
        raise ConflictError(f"{id_} was deleted meanwhile")


def find_job(session: Session, caller: Caller, id_: str) -> JobRow:
    """A job of the caller's.

    Raises:
        NotFoundError: there is none, or it is another's: the answer does not tell which.
    """
    row = session.get(JobRow, id_)
    if row is None or row.owner != caller.id:
        raise NotFoundError(f"there is no job {id_}", hint="list yours: GET /v1/jobs")
    return row


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
        if row.state == "queued":
            row.cancel_requested = True
            move(session, row, "cancelled")
        elif not row.cancel_requested:
            row.cancel_requested = True
            add_event(session, row, "state", {"state": "cancelling"})
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
        _check_quota(session, service, caller)
        fields = {**row.request, **changes}
        files = {k: v for k, v in row.config.items() if k in _FILE_FIELDS}
        config = read_job(fields, files, service.settings.max_time_limit)
        row.request, row.config = fields, _stored(config)
        row.cancel_requested, row.attempts = False, 0
        row.verdict = row.problem = row.finished = None
        move(session, row, "queued")
        return describe_job(session, row)


_FILE_FIELDS = (MODEL_FIELD, TARGET_FIELD, *DATASET_FIELDS)


def delete_job(service: Service, caller: Caller, id_: str) -> None:
    """Remove an ended job with everything that it delivered.

    Raises:
        NotFoundError: as for `find_job`.
        ConflictError: it has not ended.
    """
    with service.database.writing() as session:
        find_job(session, caller, id_)
        row = locked(session, id_)
        if row is None or row.state not in ENDED:
            raise ConflictError(f"the job {id_} has not ended", hint="cancel it first")
        session.delete(row)
    service.files.forget_job(id_)


def describe_job(session: Session, row: JobRow, *, briefly: bool = False) -> JobInfo:
    """A job as it is told; briefly without its manifest."""
    record = best_record(session, row)
    cancelling = row.state == "running" and row.cancel_requested
    return JobInfo.model_validate(
        {
            "id": row.id, "name": row.name, "state": "cancelling" if cancelling else row.state,
            "request": row.request, "priority": row.priority, "created": row.created,
            "started": row.started, "finished": row.finished, "attempts": row.attempts,
            "progress": row.progress, "verdict": row.verdict, "problem": row.problem,
            "exit_code": None if row.verdict is None else Verdict(row.verdict).exit_code,
            "best": None if record is None else trial_info(0, record),
            "manifest": None if briefly else row.manifest,
        }
    )  # fmt: skip


def trials_of(session: Session, job: JobRow) -> list[TrialInfo]:
    """Every trial of a job, in order."""
    rows = session.scalars(select(TrialRow).where(TrialRow.job == job.id).order_by(TrialRow.number))
    return [trial_info(row.number, row.record) for row in rows]


def trial_info(number: int, record: Mapping[str, Any]) -> TrialInfo:
    """A trial's record as it is told."""
    return TrialInfo.model_validate({**record, **record["evidence"], "number": number})


def pareto_front(trials: list[TrialInfo]) -> list[TrialInfo]:
    """Trials than which none is both faster and more accurate, fastest first."""
    front: list[TrialInfo] = []
    for trial in sorted(trials, key=lambda t: (t.latency_ratio, t.drop)):
        if not front or trial.drop < front[-1].drop:
            front.append(trial)
    return front
