"""Bearer keys: made once, stored as a digest, with scopes; every thing belongs to one of them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import select

from api.database import Database, is_id, new_id
from api.json_logs import about
from api.tables import KeyRow
from autosparse.client.key_records import KeyInfo, NewKey, Scope
from autosparse.errors import UnauthenticatedError

SCOPES: tuple[Scope, ...] = get_args(Scope)
OPEN_KEY = "key_open"
"""Owner of everything on a server that asks for no keys."""
_HINT = "send the header `Authorization: Bearer KEY`; the first key was printed by autosparse serve"
AT_THE_SERVER = "the server"
"""Who asks where nobody's key does."""
_audit = logging.getLogger("autosparse.audit")


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    id: str
    scopes: frozenset[str]


def make_key(
    database: Database, name: str, scopes: Sequence[Scope], by: str = AT_THE_SERVER
) -> NewKey:
    """Make a key; its secret is in the answer, and nowhere else.

    Args:
        database: where its digest is stored.
        name: for people.
        scopes: what it may do.
        by: id of the key that asked for it, for the log.
    """
    id_ = new_id("key")
    secret, digest = new_secret()
    row = KeyRow(
        id=id_, name=name, digest=digest, scopes=sorted(set(scopes)),
        created=time.time(), revoked=None,
    )  # fmt: skip
    with database.writing() as session:
        session.add(row)
    made = describe(row)
    write_down("made", made, by)
    return NewKey(**made.model_dump(), key=f"{id_}.{secret}")


def new_secret() -> tuple[str, bytes]:
    """What a key proves itself with, and what is stored of it.

    It is 32 random bytes, so one round of SHA-256 is as good as a slow hash: there is nothing to
    guess.
    """
    secret = secrets.token_urlsafe(32)
    return secret, _digest(secret)


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
        may_be = scheme.lower() == "bearer" and is_id(id_) and id_ != OPEN_KEY
        row = session.get(KeyRow, id_) if may_be else None
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


def write_down(done: str, key: KeyInfo, by: str) -> None:
    """Who made, rotated or revoked which key: a line of its own beside that of the request."""
    told = about(key=key.id, name=key.name, scopes=key.scopes, done=done, by=by)
    _audit.info("key", extra=told)


def describe(row: KeyRow) -> KeyInfo:
    """A key without its secret."""
    return KeyInfo.model_validate(
        {"id": row.id, "name": row.name, "scopes": row.scopes, "created": row.created,
         "revoked": row.revoked}
    )  # fmt: skip


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", errors="surrogateescape")).digest()
