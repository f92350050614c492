"""Links that a browser may open without a key: one delivery, for a short while.

A browser cannot send a header with a download or a page that it opens. So whoever has a key asks
for a link, signed with the key's digest, which every server of one database knows and nobody else.
Revoking the key voids its links.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import quote, urlencode

from fastapi import Request

from api.database import Database, is_id
from api.keys import Caller
from api.tables import KeyRow
from autosparse.client.records import LinkInfo
from autosparse.errors import UnauthenticatedError

LIFETIME_SECONDS = 60.0


def make_link(database: Database, caller: Caller, path: str, show: bool) -> LinkInfo:
    """A link to what lies at a path of this server.

    Args:
        database: where keys are.
        caller: whose key signs it.
        path: not yet quoted.
        show: ask for a page to be shown, not saved.
    """
    until = int(time.time() + LIFETIME_SECONDS)
    with database.reading() as session:
        digest = session.get_one(KeyRow, caller.id).digest
    asked = {
        "key": caller.id, "until": until, "signature": _signature(digest, path, until),
        **({"show": "true"} if show else {}),
    }  # fmt: skip
    return LinkInfo(url=f"{quote(path)}?{urlencode(asked)}", expires=until)


def caller_of_link(database: Database, request: Request) -> Caller | None:
    """Whose link it is; None where the request is none.

    Raises:
        UnauthenticatedError: it is changed, expired, or of a key that was revoked.
    """
    asked = request.query_params
    signature = asked.get("signature")
    if signature is None or request.method != "GET":
        return None
    until = asked.get("until", "")
    with database.reading() as session:
        key = asked.get("key", "")
        row = session.get(KeyRow, key) if is_id(key) else None
    path: str = request.scope["path"]
    in_time = until.isascii() and until.isdecimal() and int(until[:15]) >= time.time()
    right = _signature(bytes(32) if row is None else row.digest, path, until)
    matches = hmac.compare_digest(right.encode(), signature.encode("utf-8", "surrogateescape"))
    if row is None or not matches or not in_time or row.revoked is not None:
        raise UnauthenticatedError(
            "the link is not valid any more", hint="go back to the job's page and open it again"
        )
    return Caller(row.id, frozenset(row.scopes))


def _signature(digest: bytes, path: str, until: int | str) -> str:
    return hmac.new(digest, f"GET\n{until}\n{path}".encode(), hashlib.sha256).hexdigest()
