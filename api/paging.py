"""Parts of long lists, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from fastapi import Query
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ExecutableOption

from api.database import is_id
from api.tables import (
    DeliveryRow,
    JobRow,
    PendingRow,
    RunRow,
    ScheduleRow,
    TargetRow,
    UploadRow,
)
from autosparse.errors import NotFoundError

Row = TypeVar("Row", DeliveryRow, JobRow, PendingRow, RunRow, ScheduleRow, TargetRow, UploadRow)
Limit = Annotated[int, Query(ge=1, le=200, description="Most items on a page.")]
After = Annotated[
    str | None, Query(max_length=40, description="`next` of the page before this one.")
]

AfterNumber = Annotated[
    int, Query(ge=0, le=2**31 - 1, description="`next` of the page before this one.")
]


def page_of(
    session: Session, table: type[Row], chosen: ColumnElement[bool], limit: int,
    after: str | None, options: Sequence[ExecutableOption] = (),
) -> tuple[list[Row], str | None]:  # fmt: skip
    """The rows behind `after`, and what to give as `after` for the page behind them.

    Args:
        session: of the database.
        table: where the rows are.
        chosen: which of them.
        limit: the most on a page.
        after: id of the last row of the page before; None for the first page.
        options: of the query, such as columns that are not read.

    Raises:
        NotFoundError: `after` is no id of the list.
    """
    query = select(table).where(chosen).options(*options)
    if after is not None:
        last = session.scalar(query.where(table.id == after)) if is_id(after) else None
        if last is None:
            raise NotFoundError(f"there is nothing called {after} to go on behind")
        same_time = (table.created == last.created) & (table.id < last.id)
        query = query.where((table.created < last.created) | same_time)
    ordered = query.order_by(table.created.desc(), table.id.desc()).limit(limit + 1)
    rows = list(session.scalars(ordered))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None
