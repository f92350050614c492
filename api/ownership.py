"""Whose a row is: what belongs to another key is not there, and no answer tells the difference."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy.orm import Session

from api.database import is_id
from api.keys import Caller
from api.tables import JobRow, PendingRow, ScheduleRow, TargetRow, UploadRow, WebhookRow
from autosparse.errors import NotFoundError

Owned = TypeVar("Owned", JobRow, PendingRow, ScheduleRow, TargetRow, UploadRow, WebhookRow)


def owned_row(
    session: Session, table: type[Owned], caller: Caller, id_: str, word: str, hint: str = ""
) -> Owned:
    """A row of the caller's.

    Args:
        session: of the database.
        table: where it is.
        caller: who asks.
        id_: of the row.
        word: what clients call such a row; its plural is the route that lists them.
        hint: what to do where it is not there, if not to list them.

    Raises:
        NotFoundError: there is none, or it is another's.
    """
    row = session.get(table, id_) if is_id(id_) else None
    if row is None or row.owner != caller.id:
        raise missing(word, id_, hint)
    return row


def missing(word: str, id_: str, hint: str = "") -> NotFoundError:
    """The answer for what is not there, or not the caller's."""
    return NotFoundError(f"there is no {word} {id_}", hint=hint or f"list yours: GET /v1/{word}s")
