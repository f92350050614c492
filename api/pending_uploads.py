"""Uploads in pieces, for files that take longer than a connection lasts.

What has arrived is what lies on the disk: a piece that broke off counts as far as it came, and the
next one goes on there.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api.database import new_id
from api.file_store import Received, too_large
from api.keys import Caller
from api.ownership import missing, owned_row
from api.paging import page_of
from api.service import Service
from api.tables import PendingRow, UploadRow
from api.uploads import (
    KINDS,
    check_name,
    check_room_left,
    describe_upload,
    keep_upload,
    kept_id,
)
from autosparse.artifacts.bundle import file_sha256
from autosparse.client.records import DatasetInfo, ModelInfo, Page, UploadProgress
from autosparse.errors import ConflictError, StorageError, UserInputError
from autosparse.journal import stored_safely

_BEGIN_ANEW = "begin anew: POST /v1/uploads"


class PendingRequest(BaseModel):
    """What is going to be uploaded."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [{"kind": "dataset", "name": "train.npz", "size_bytes": 5_368_709_120}]
        },
    )  # fmt: skip

    kind: Literal["model", "dataset"]
    """A model, or a dataset."""
    size_bytes: int = Field(gt=0)
    """Size of the whole file."""
    name: str = ""
    """For people; never part of a path."""


def begin(service: Service, caller: Caller, asked: PendingRequest) -> UploadProgress:
    """Announce an upload.

    Raises:
        TooLargeError: more than one may have.
        QuotaError: more than the key has room for, other announced uploads counted.
    """
    check_name(asked.name)
    limit = KINDS[asked.kind].most_bytes(service.settings)
    if asked.size_bytes > limit:
        raise too_large("the upload", limit)
    row = PendingRow(
        id=new_id("upl"), owner=caller.id, kind=asked.kind, name=asked.name,
        size_bytes=asked.size_bytes, created=time.time(),
    )  # fmt: skip
    with service.database.writing() as session:
        service.database.hold(session, caller.id)
        check_room_left(session, service, caller.id, asked.size_bytes)
        session.add(row)
        with stored_safely(service.files.root):
            service.files.pending(row.id).touch(mode=0o600)
    return _progress(service, row)


def arriving(
    service: Service, caller: Caller, limit: int, after: str | None
) -> Page[UploadProgress]:
    """A part of the uploads that are announced: each counts for the room that its key has.

    Raises:
        NotFoundError: `after` is no id of the list.
    """
    with service.database.reading() as session:
        mine = PendingRow.owner == caller.id
        rows, following = page_of(session, PendingRow, mine, limit, after)
    return Page(items=tuple(_progress(service, row) for row in rows), next=following)


def progress(service: Service, caller: Caller, id_: str) -> UploadProgress:
    """How far an upload is.

    Raises:
        NotFoundError: there is no such upload of the caller's, any more.
    """
    with service.database.reading() as session:
        return _progress(service, _find(session, service, caller, id_))


async def receive(
    service: Service, caller: Caller, id_: str, offset: int, pieces: AsyncIterator[bytes]
) -> UploadProgress:
    """Go on with an upload; what arrives is kept, even where the connection breaks.

    Raises:
        NotFoundError: there is no such upload of the caller's, any more.
        ConflictError: it is not there that it goes on, or another piece is arriving.
        TooLargeError: more than was announced; what was announced is kept.
    """

    def found() -> PendingRow:
        with service.database.reading() as session:
            return _find(session, service, caller, id_)

    row = await to_thread.run_sync(found)
    path = service.files.pending(id_)
    with _alone(path) as file:
        received = file.seek(0, 2)
        if received != offset:
            raise ConflictError(
                f"{received} bytes have arrived, so it goes on there, and not at {offset}",
                hint=f"GET /v1/uploads/{id_} tells received_bytes",
            )
        async for piece in pieces:
            left = row.size_bytes - received
            await to_thread.run_sync(_write, file, piece[:left])
            received += min(len(piece), left)
            if len(piece) > left:
                raise too_large("what arrives", row.size_bytes)
    return _progress(service, row)


def finish(service: Service, caller: Caller, id_: str) -> ModelInfo | DatasetInfo:
    """Look into an upload that has arrived, and keep it. What is refused is removed.

    It may be asked for again: until there is an answer, what has arrived stays, and afterwards
    the answer is the same.

    Raises:
        NotFoundError: there is no such upload of the caller's, any more.
        ConflictError: it has not arrived as a whole, or is looked into just now.
        UserInputError: what the intake has against it.
    """
    before = _kept(service, caller, id_)
    if before is not None:
        return before
    path = service.files.pending(id_)
    with service.database.reading() as session:
        row = _find(session, service, caller, id_)
    told = _progress(service, row)
    if told.received_bytes < told.size_bytes:
        raise ConflictError(
            f"{told.received_bytes} of {told.size_bytes} bytes have arrived",
            hint=f"send the rest: PATCH /v1/uploads/{id_}",
        )
    with _alone(path):
        received = Received(path, file_sha256(path), row.size_bytes)
        try:
            made = keep_upload(service, caller, KINDS[row.kind], row.name, received, row)
        except StorageError:
            raise  # no fault of the file's, which is needed again
        except UserInputError:
            give_up(service, caller, id_)
            raise
    path.unlink(missing_ok=True)
    return made


def _kept(service: Service, caller: Caller, id_: str) -> ModelInfo | DatasetInfo | None:
    """What an upload in pieces has become, if it has: its last answer may have been lost."""
    with service.database.reading() as session:
        found = (session.get(UploadRow, kept_id(kind, id_)) for kind in KINDS.values())
        row = next((row for row in found if row is not None and row.owner == caller.id), None)
    return None if row is None else describe_upload(row)


def give_up(service: Service, caller: Caller, id_: str) -> None:
    """Forget what has arrived.

    Raises:
        NotFoundError: there is no such upload of the caller's.
    """
    with service.database.writing() as session:
        session.delete(_row(session, caller, id_))
    service.files.pending(id_).unlink(missing_ok=True)


def _row(session: Session, caller: Caller, id_: str) -> PendingRow:
    return owned_row(session, PendingRow, caller, id_, "upload", _BEGIN_ANEW)


def _find(session: Session, service: Service, caller: Caller, id_: str) -> PendingRow:
    row = _row(session, caller, id_)
    if not service.files.pending(id_).is_file():  # it was left alone for too long
        raise missing("upload", id_, _BEGIN_ANEW)
    return row


def _progress(service: Service, row: PendingRow) -> UploadProgress:
    return UploadProgress(
        id=row.id, kind=row.kind, name=row.name, size_bytes=row.size_bytes, created=row.created,
        received_bytes=_received(service.files.pending(row.id)),
    )  # fmt: skip


def _received(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # it was left alone for too long, or is arriving at another server


def _write(file: IO[bytes], piece: bytes) -> None:
    """All of it, and at once: what has arrived is what others can see of the file."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """The file to append to, while nobody else does."""
    with stored_safely(path), path.open("r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                "another piece of it is arriving, or it is looked into just now",
                hint="wait until its connection has ended",
            ) from error
        yield file
