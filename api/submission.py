"""Accepting a job: checked, laid out, and put into the queue once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack

from pydantic import JsonValue
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.database import new_id
from api.job_kinds import PREPARERS, SEARCH
from api.job_ledger import add_event
from api.job_request import device_of, digest_of, label_of
from api.joined_devices import check_device
from api.json_logs import about
from api.keys import Caller
from api.service import Service
from api.tables import JobRow, JobUploadRow, TargetRow, UploadRow
from autosparse.client.records import ENDED
from autosparse.errors import ConflictError, QuotaError

_log = logging.getLogger("autosparse.jobs")


def accept_job(
    service: Service,
    caller: Caller,
    kind: str,
    fields: Mapping[str, JsonValue],
    idempotency_key: str | None = None,
) -> tuple[JobRow, bool]:
    """Check a job as its own intake would, and put it in the queue.

    Returns:
        The job, and whether it is new: the same idempotency key leads to the same job.

    Raises:
        UserInputError: what is wrong with it; nothing is kept then.
    """
    label_of(fields)
    _check_device(service, caller, fields)
    digest = digest_of(fields if kind == SEARCH else {"kind": kind, **fields})
    before = _same_request(service, caller, digest, idempotency_key)
    if before is not None:
        return before, False
    id_ = new_id("job")
    with ExitStack() as undo:
        undo.callback(service.files.forget_job, id_)
        row, needed = _prepared(service, caller, kind, fields, id_)
        row.idempotency_key, row.request_digest = idempotency_key, digest
        if service.settings.own_home:
            # whoever runs it lays its directory out anew; one that is here would be only in the way
            service.files.forget_job(id_)
        try:
            _store(service, caller, row, needed)
        except IntegrityError:
            before = _same_request(service, caller, digest, idempotency_key)
            if before is None:
                raise
            return before, False
        undo.pop_all()
    _log.info("accepted", extra=about(job=id_, kind=kind, key=caller.id))
    return row, True


def check_request(
    service: Service, caller: Caller, kind: str, fields: Mapping[str, JsonValue]
) -> frozenset[str]:
    """Check a job that is to be submitted later.

    Returns:
        Ids of what it needs.

    Raises:
        UserInputError: it would not be accepted now.
    """
    label_of(fields)
    _check_device(service, caller, fields)
    id_ = new_id("job")
    try:
        return PREPARERS[kind](service, caller, fields, id_).needed
    finally:
        service.files.forget_job(id_)


def _prepared(
    service: Service, caller: Caller, kind: str, fields: Mapping[str, JsonValue], id_: str
) -> tuple[JobRow, frozenset[str]]:
    prepared = PREPARERS[kind](service, caller, fields, id_)
    name, priority = label_of(fields)
    row = JobRow(
        id=id_, owner=caller.id, kind=kind, name=name, idempotency_key=None, request_digest="",
        state="queued", request=prepared.request, config=prepared.config, priority=priority,
        created=time.time(), started=None, finished=None, attempts=0, cancel_requested=False,
        runner=None, lease_until=None, events=0, progress=None, best_recipe=None, verdict=None,
        problem=None, manifest=None, outcome=None, device=device_of(fields) or prepared.device,
    )  # fmt: skip
    return row, prepared.needed


def _check_device(service: Service, caller: Caller, fields: Mapping[str, JsonValue]) -> None:
    """Refuse a device that there never was.

    Raises:
        ConfigError: there is none of that name.
    """
    device = device_of(fields)
    if device is None:
        return
    with service.database.reading() as session:
        check_device(session, caller, device)


def _store(service: Service, caller: Caller, row: JobRow, needed: frozenset[str]) -> None:
    """Put a job into the queue, where its key may have one more and what it needs is there."""
    with service.database.writing() as session:
        service.database.hold(session, caller.id)
        check_quota(session, service, caller)
        session.add(row)
        session.flush()
        for id_ in sorted(needed):
            check_there(session, id_)
            session.add(JobUploadRow(job=row.id, upload=id_))
        add_event(session, row, "state", {"state": "queued"})


def _same_request(service: Service, caller: Caller, digest: str, key: str | None) -> JobRow | None:
    if key is None:
        return None
    with service.database.reading() as session:
        mine = select(JobRow).where(JobRow.owner == caller.id, JobRow.idempotency_key == key)
        row = session.scalar(mine)
    if row is not None and row.request_digest != digest:
        raise ConflictError(
            f"the idempotency key {key!r} was used for another job, {row.id}",
            hint="take a new key for a new job",
        )
    return row


def check_quota(session: Session, service: Service, caller: Caller) -> None:
    """Refuse one more job where the key has as many as it may have.

    Raises:
        QuotaError: how many there are.
    """
    mine = JobRow.owner == caller.id
    open_jobs = session.scalar(
        select(func.count()).select_from(JobRow).where(mine, JobRow.state.not_in(ENDED))
    )
    if (open_jobs or 0) >= service.settings.max_unfinished_jobs:
        raise QuotaError(
            f"the key has {open_jobs} unfinished jobs", hint="wait for some, or cancel them"
        )


def check_there(session: Session, id_: str) -> None:
    """An upload, target or job may have been deleted while the intake looked at it.

    Raises:
        ConflictError: it was.
    """
    table = {"tgt": TargetRow, "job": JobRow}.get(id_.partition("_")[0], UploadRow)
    if session.get(table, id_) is None:
        raise ConflictError(f"{id_} was deleted meanwhile")
