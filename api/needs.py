"""What jobs and schedules need: uploads and targets that stay as long as they do."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.tables import JobUploadRow, ScheduleNeedRow

_MOST_TOLD = 10
_NEEDS = (
    (JobUploadRow.upload, JobUploadRow.job), (ScheduleNeedRow.needed, ScheduleNeedRow.schedule),
)  # fmt: skip


def needs_of(session: Session, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Which jobs and schedules need each upload or target, up to ten of either.

    Args:
        session: of the database.
        ids: of the uploads or targets.

    Returns:
        One entry for each id: jobs first, empty where nothing needs it.
    """
    found: dict[str, tuple[str, ...]] = dict.fromkeys(ids, ())
    for needed, by in _NEEDS:
        # a dataset may be needed by thousands of jobs: as few are read as are told
        place = func.row_number().over(partition_by=needed, order_by=by)
        every = select(needed.label("needed"), by.label("by"), place.label("place"))
        few = every.where(needed.in_(ids)).subquery()
        told = select(few.c.needed, few.c.by).where(few.c.place <= _MOST_TOLD).order_by(few.c.by)
        for id_, needing in session.execute(told):
            found[id_] += (needing,)
    return found
