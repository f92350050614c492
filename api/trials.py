"""The trials of a job, as they are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.tables import JobRow, TrialRow
from autosparse.client.records import TrialInfo


def page_of_trials(
    session: Session, job: JobRow, limit: int, after: int
) -> tuple[list[TrialInfo], str | None]:
    """A job's trials behind a number, in order, and what to give for the page behind them."""
    behind = select(TrialRow).where(TrialRow.job == job.id, TrialRow.number > after)
    rows = list(session.scalars(behind.order_by(TrialRow.number).limit(limit + 1)))
    following = str(rows[limit - 1].number) if len(rows) > limit else None
    return [trial_info(row.number, row.record) for row in rows[:limit]], following


def trial_info(number: int, record: Mapping[str, Any]) -> TrialInfo:
    """A trial's record as it is told."""
    # what the record tells itself counts: its evidence may leave seconds out
    return TrialInfo.model_validate({**record["evidence"], **record, "number": number})
