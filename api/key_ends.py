"""The end of a key, or of its secret alone; and what ends along with it."""

from __future__ import annotations

import time

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.database import Database
from api.jobs import cancel_row
from api.keys import AT_THE_SERVER, OPEN_KEY, describe, new_secret, write_down
from api.tables import DeviceRow, JobRow, KeyRow
from autosparse.client.key_records import KeyInfo, NewKey
from autosparse.client.records import ENDED
from autosparse.errors import ConflictError, NotFoundError


def revoke_key(database: Database, id_: str, by: str = AT_THE_SERVER) -> KeyInfo:
    """Make a key void. What it owns stays; its jobs are cancelled, its devices withdrawn.

    Nobody but the key sees its jobs. What one that leaked has put into the queue would keep the
    device from everybody else for as long as its limits allow.

    Args:
        database: where it is stored.
        id_: the key's.
        by: id of the key that asked for it, for the log.

    Raises:
        NotFoundError: there is no such key.
        ConflictError: it is the last one that can make others.
    """
    with database.writing() as session:
        database.hold(session, "keys")  # of two that revoke each other at once, one stays
        row = _held(session, id_)
        if row.revoked is not None:
            return describe(row)
        _check_not_last(session, row)
        row.revoked = time.time()
        session.execute(update(DeviceRow).where(DeviceRow.owner == id_).values(until=0.0))
        unfinished = select(JobRow).where(JobRow.owner == id_, JobRow.state.not_in(ENDED))
        for job in session.scalars(unfinished.with_for_update()):
            cancel_row(session, job)
        revoked = describe(row)
    write_down("revoked", revoked, by)
    return revoked


def rotate_key(database: Database, id_: str, by: str) -> NewKey:
    """Give a key another secret: it stays what it is, and the former secret is void.

    Only whoever has the key may, since whoever has the secret has what the key owns.

    Args:
        database: where it is stored.
        id_: the key's.
        by: id of the key that asks for it.

    Raises:
        NotFoundError: it is another key, or what stands for everybody.
    """
    if id_ != by:
        raise _missing(id_)
    with database.writing() as session:
        row = _held(session, id_)
        secret, row.digest = new_secret()
        rotated = describe(row)
    write_down("rotated", rotated, by)
    return NewKey(**rotated.model_dump(), key=f"{id_}.{secret}")


def _held(session: Session, id_: str) -> KeyRow:
    row = session.get(KeyRow, id_, with_for_update=True) if id_ != OPEN_KEY else None
    if row is None:
        raise _missing(id_)
    return row


def _missing(id_: str) -> NotFoundError:
    return NotFoundError(f"there is no key {id_}")


def _check_not_last(session: Session, row: KeyRow) -> None:
    others = select(KeyRow).where(KeyRow.id.not_in((row.id, OPEN_KEY)), KeyRow.revoked.is_(None))
    if "admin" in row.scopes and not any("admin" in key.scopes for key in session.scalars(others)):
        raise ConflictError(
            f"{row.id} is the last key with the scope admin: nobody could make another",
            hint="make one with that scope first, here or with `autosparse serve --new-key`",
        )
