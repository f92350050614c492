"""Bearer keys: made once, stored as a digest, with scopes; every thing belongs to one of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.database import Database, new_id
from api.tables import KeyRow
from autosparse.client.key_records import KeyInfo, NewKey, Scope
from autosparse.errors import ConflictError, NotFoundError, UnauthenticatedError

SCOPES: tuple[Scope, ...] = get_args(Scope)
OPEN_KEY = "key_open"
"""Owner of everything on a server that asks for no keys."""
_HINT = "send the header `Authorization: Bearer KEY`; the first key was printed by autosparse serve"
_AT_THE_SERVER = "the server"
_audit = logging.getLogger("autosparse.audit")


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    id: str
    scopes: frozenset[str]


def make_key(
    database: Database, name: str, scopes: Sequence[Scope], by: str = _AT_THE_SERVER
) -> NewKey:
    """Make a key; its secret is in the answer, and nowhere else.

    The secret is 32 random bytes, so one round of SHA-256 is as good as a slow hash: there is
    nothing to guess.

    Args:
        database: where its digest is stored.
        name: for people.
        scopes: what it may do.
        by: id of the key that asked for it, for the log.
    """
    id_, secret = new_id("key"), secrets.token_urlsafe(32)
    row = KeyRow(
        id=id_, name=name, digest=_digest(secret), scopes=sorted(set(scopes)),
        created=time.time(), revoked=None,
    )  # fmt: skip
    with database.writing() as session:
        session.add(row)
    made = describe(row)
    _write_down("made", made, by)
    return NewKey(**made.model_dump(), key=f"{id_}.{secret}")


def first_key(database: Database) -> NewKey | None:
    """A key for everything, on a database that has none yet."""
    with database.reading() as session:
        if session.scalar(select(KeyRow.id).where(KeyRow.id != OPEN_KEY).limit(1)):
            return None
    return make_key(database, "first", SCOPES)


def open_access(database: Database) -> None:
    """Make the owner that stands for everybody."""
    with database.writing() as session:
        if session.get(KeyRow, OPEN_KEY) is None:
            session.add(
                KeyRow(
                    id=OPEN_KEY, name="everybody", digest=secrets.token_bytes(32),
                    scopes=list(SCOPES), created=time.time(), revoked=None,
                )
            )  # fmt: skip


def authenticate(database: Database, authorization: str | None) -> Caller:
    """Find the key that a request carries.

    Raises:
        UnauthenticatedError: none, unknown, wrong or revoked; the answer does not tell which.
    """
    scheme, _, key = (authorization or "").partition(" ")
    id_, _, secret = key.strip().partition(".")
    with database.reading() as session:
        row = session.get(KeyRow, id_) if scheme.lower() == "bearer" and id_ != OPEN_KEY else None
    known = row.digest if row is not None else bytes(32)
    matches = hmac.compare_digest(known, _digest(secret))
    if row is None or not matches or row.revoked is not None:
        raise UnauthenticatedError("the request carries no valid key", hint=_HINT)
    return Caller(row.id, frozenset(row.scopes))


def list_keys(database: Database) -> tuple[KeyInfo, ...]:
    """Every key, newest first; what stands for everybody is none."""
    with database.reading() as session:
        keys = select(KeyRow).where(KeyRow.id != OPEN_KEY)
        rows = session.scalars(keys.order_by(KeyRow.created.desc(), KeyRow.id.desc()))
        return tuple(describe(row) for row in rows)


def revoke_key(database: Database, id_: str, by: str = _AT_THE_SERVER) -> KeyInfo:
    """Make a key void; what it owns stays.

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
        row = session.get(KeyRow, id_) if id_ != OPEN_KEY else None
        if row is None:
            raise NotFoundError(f"there is no key {id_}")
        if row.revoked is not None:
            return describe(row)
        _check_not_last(session, row)
        row.revoked = time.time()
        revoked = describe(row)
    _write_down("revoked", revoked, by)
    return revoked


def _check_not_last(session: Session, row: KeyRow) -> None:
    others = select(KeyRow).where(KeyRow.id.not_in((row.id, OPEN_KEY)), KeyRow.revoked.is_(None))
    if "admin" in row.scopes and not any("admin" in key.scopes for key in session.scalars(others)):
        raise ConflictError(
            f"{row.id} is the last key with the scope admin: nobody could make another",
            hint="make one with that scope first, here or with `autosparse serve --new-key`",
        )


def _write_down(done: str, key: KeyInfo, by: str) -> None:
    """Who made or revoked which key: a line of its own beside that of the request."""
    told = {"key": key.id, "name": key.name, "scopes": key.scopes, "done": done, "by": by}
    _audit.info(json.dumps(told))


def describe(row: KeyRow) -> KeyInfo:
    """A key without its secret."""
    return KeyInfo.model_validate(
        {"id": row.id, "name": row.name, "scopes": row.scopes, "created": row.created,
         "revoked": row.revoked}
    )  # fmt: skip


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", errors="surrogateescape")).digest()
