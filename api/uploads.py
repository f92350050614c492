"""Models, datasets, targets: received, looked into, stored once, forgotten when unused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from api.database import new_id
from api.file_store import Received, remove
from api.keys import Caller
from api.needs import needs_of
from api.ownership import missing, owned_row
from api.service import Service
from api.settings import ServerSettings
from api.tables import PendingRow, TargetRow, UploadRow
from api.target_request import read_target
from autosparse.client.records import DatasetInfo, ModelInfo, TargetInfo
from autosparse.errors import (
    ConfigError,
    ConflictError,
    QuotaError,
    StorageError,
)


@dataclass(frozen=True)
class UploadKind:
    """Models or datasets: all that is different between the two."""

    name: str
    """As the inspecting process knows it."""
    prefix: str
    """What its ids begin with."""
    record: type[ModelInfo | DatasetInfo]
    """How one is told."""
    most_bytes: Callable[[ServerSettings], int]
    """Largest upload."""


MODEL = UploadKind("model", "mdl", ModelInfo, lambda settings: settings.max_model_bytes)
DATASET = UploadKind("dataset", "dat", DatasetInfo, lambda settings: settings.max_dataset_bytes)
KINDS = {kind.name: kind for kind in (MODEL, DATASET)}
_LONGEST_NAME = 200
_MOST_TARGETS = 1000


def check_name(name: str) -> str:
    """A name for people; it is never part of a path.

    Raises:
        ConfigError: too long, or not printable.
    """
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise ConfigError(f"name: give up to {_LONGEST_NAME} printable characters")
    return name


def room_for(service: Service, owner: str, announced: int) -> int:
    """Bytes that a key may store beside what it stores, before an upload is read.

    Raises:
        QuotaError: less than what was announced.
    """
    with service.database.reading() as session:
        return check_room_left(session, service, owner, announced)


def store_upload(
    service: Service, caller: Caller, kind: UploadKind, name: str, received: Received
) -> ModelInfo | DatasetInfo:
    """Look into a received file, and keep it.

    Raises:
        UserInputError: what the intake has against it; nothing is kept then.
    """
    try:
        return keep_upload(service, caller, kind, name, received)
    finally:
        remove(received.path)


def keep_upload(
    service: Service,
    caller: Caller,
    kind: UploadKind,
    name: str,
    received: Received,
    announced: PendingRow | None = None,
) -> ModelInfo | DatasetInfo:
    """Look into a received file and keep what it holds; what is left of the file is the caller's.

    Args:
        service: where to.
        caller: whose it is.
        kind: what it is.
        name: for people.
        received: the file.
        announced: the upload in pieces that it was, which is over then.

    Raises:
        UserInputError: what the intake has against it; nothing is kept then.
    """
    unpacked = service.files.incoming()
    try:
        found = service.inspector.inspect(
            kind.name, path=str(received.path), into=str(unpacked),
            most_bytes=kind.most_bytes(service.settings),
        )  # fmt: skip
        row = UploadRow(
            id=new_id(kind.prefix) if announced is None else kept_id(kind, announced.id),
            owner=caller.id, kind=kind.name, name=name, sha256=received.sha256,
            size_bytes=received.size_bytes, created=time.time(), found=found,
        )  # fmt: skip
        sent = unpacked if unpacked.is_dir() else received.path
        room_for(service, caller.id, 0 if announced else received.size_bytes)
        with ExitStack() as undo:
            undo.callback(_forget_if_unowned, service, received.sha256)
            # which takes long, so before others wait for it
            service.files.send(received.sha256, sent)
            _keep(service, row, announced, unpacked, received)
            undo.pop_all()
    finally:
        remove(unpacked)
    return describe_upload(row)


def _keep(
    service: Service, row: UploadRow, announced: PendingRow | None, unpacked: Path,
    received: Received,
) -> None:  # fmt: skip
    """Put what was looked into in its place, where its key has the room."""
    with service.database.writing() as session:
        service.database.hold(session, received.sha256)
        if announced is not None:  # its bytes count once
            session.execute(delete(PendingRow).where(PendingRow.id == announced.id))
        check_room_left(session, service, row.owner, received.size_bytes)
        if unpacked.is_dir():
            service.files.send(received.sha256, unpacked)  # again, if it was forgotten in between
            service.files.keep_model(unpacked, received.sha256)
        else:
            service.files.send(received.sha256, received.path)
            service.files.keep_blob(received)
        session.add(row)


def _forget_if_unowned(service: Service, sha256: str) -> None:
    """Keep nothing of an upload that was refused after all, unless somebody else has it, too."""
    with suppress(StorageError), service.database.writing() as session:
        service.database.hold(session, sha256)
        _forget_bytes(session, service, sha256)


def _forget_bytes(session: Session, service: Service, sha256: str) -> None:
    same = select(UploadRow.id).where(UploadRow.sha256 == sha256).limit(1)
    if session.scalar(same) is None:
        service.files.forget(sha256)


def kept_id(kind: UploadKind, announced: str) -> str:
    """The id of what an upload in pieces became: told by its own, so that both ends know it."""
    return f"{kind.prefix}_{announced.partition('_')[2]}"


def store_target(service: Service, caller: Caller, fields: Mapping[str, JsonValue]) -> TargetInfo:
    """Keep a target file.

    Raises:
        ConfigError: it does not follow the schema, or lies elsewhere.
        QuotaError: the key has too many.
    """
    target = read_target(fields)
    row = TargetRow(
        id=new_id("tgt"), owner=caller.id, name=check_name(target.name), created=time.time(),
        document=target.model_dump(mode="json"),
    )  # fmt: skip
    with service.database.writing() as session:
        mine = select(func.count()).select_from(TargetRow).where(TargetRow.owner == caller.id)
        if (session.scalar(mine) or 0) >= _MOST_TARGETS:
            raise QuotaError(f"the key has {_MOST_TARGETS} targets", hint="delete some")
        session.add(row)
    return describe_target(row)


def find_upload(session: Session, caller: Caller, kind: UploadKind, id_: str) -> UploadRow:
    """An upload of the caller's.

    Raises:
        NotFoundError: there is none, or it is another's: the answer does not tell which.
    """
    row = owned_row(session, UploadRow, caller, id_, kind.name)
    if row.kind != kind.name:
        raise missing(kind.name, id_)
    return row


def find_target(session: Session, caller: Caller, id_: str) -> TargetRow:
    """A target of the caller's.

    Raises:
        NotFoundError: there is none, or it is another's.
    """
    return owned_row(session, TargetRow, caller, id_, "target")


def delete_upload(service: Service, caller: Caller, kind: UploadKind, id_: str) -> None:
    """Remove an upload, and its bytes when nobody else has them.

    Raises:
        NotFoundError: as for `find_upload`.
        ConflictError: a job needs it.
        StorageError: it is in the artifacts' store, which is away; it stays then.
    """
    with service.database.writing() as session:
        row = find_upload(session, caller, kind, id_)
        _check_unused(session, id_)
        service.database.hold(session, row.sha256)
        session.delete(row)
        session.flush()
        _forget_bytes(session, service, row.sha256)


def delete_target(service: Service, caller: Caller, id_: str) -> None:
    """Remove a target.

    Raises:
        NotFoundError: as for `find_target`.
        ConflictError: a job needs it.
    """
    with service.database.writing() as session:
        row = find_target(session, caller, id_)
        _check_unused(session, id_)
        session.delete(row)


def describe_upload(row: UploadRow, needed_by: tuple[str, ...] = ()) -> ModelInfo | DatasetInfo:
    """A model or dataset as it is told, with what was found in it and what needs it."""
    told = {
        "id": row.id, "name": row.name, "sha256": row.sha256, "size_bytes": row.size_bytes,
        "created": row.created, "needed_by": needed_by,
    }  # fmt: skip
    return KINDS[row.kind].record.model_validate({**row.found, **told})


def describe_uploads(
    session: Session, rows: Sequence[UploadRow]
) -> tuple[ModelInfo | DatasetInfo, ...]:
    """Models or datasets as they are listed."""
    needs = needs_of(session, [row.id for row in rows])
    return tuple(describe_upload(row, needs[row.id]) for row in rows)


def describe_target(row: TargetRow, needed_by: tuple[str, ...] = ()) -> TargetInfo:
    """A target as it is told, with what needs it."""
    return TargetInfo(
        id=row.id, name=row.name, created=row.created, document=row.document, needed_by=needed_by
    )


def describe_targets(session: Session, rows: Sequence[TargetRow]) -> tuple[TargetInfo, ...]:
    """Targets as they are listed."""
    needs = needs_of(session, [row.id for row in rows])
    return tuple(describe_target(row, needs[row.id]) for row in rows)


def check_room_left(session: Session, service: Service, owner: str, size: int) -> int:
    """Refuse so many more bytes where the key may not store them, too.

    Returns:
        How many more it may store.

    Raises:
        QuotaError: how much it has; what is announced and on its way counts.
    """
    sums = (
        select(func.sum(table.size_bytes)).where(table.owner == owner)
        for table in (UploadRow, PendingRow)
    )
    stored = sum(session.scalar(each) or 0 for each in sums)
    room = service.settings.max_stored_bytes - stored
    if size > room:
        raise QuotaError(
            f"the key stores {stored} bytes, and may store {service.settings.max_stored_bytes}",
            hint="delete models and datasets that no job needs any more: `autosparse uploads list`",
        )
    return room


def _check_unused(session: Session, id_: str) -> None:
    needs = needs_of(session, [id_])[id_]
    if needs:
        word = "job" if needs[0].startswith("job_") else "schedule"
        raise ConflictError(
            f"{id_} is needed by the {word} {needs[0]}", hint=f"delete the {word} first"
        )
