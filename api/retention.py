"""What is removed by itself: jobs that ended long ago, what broken uploads left, old deliveries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy import delete, select

from api.jobs import forget_job, is_needed
from api.service import Service
from api.tables import DeliveryRow, JobRow, PendingRow
from autosparse.client.records import ENDED

_log = logging.getLogger("autosparse.retention")
_DAY_SECONDS = 86400.0
_DELIVERY_DAYS = 30.0
_AT_ONCE = 200


class Retention:
    """Removes what is over its time; any number of these may run.

    Args:
        service: whose settings say how long jobs are kept.
        clock: seconds since 1970.
    """

    def __init__(self, service: Service, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._clock = clock

    def tick(self) -> int:
        """Remove what is over its time now.

        Returns:
            How many jobs were removed.
        """
        service, now = self._service, self._clock()
        service.files.sweep()
        told = (DeliveryRow.state != "waiting") & (
            DeliveryRow.created < now - _DELIVERY_DAYS * _DAY_SECONDS
        )
        with service.database.writing() as session:
            session.execute(delete(DeliveryRow).where(told))
            for row in session.scalars(select(PendingRow)):
                if not service.files.pending(row.id).is_file():  # swept
                    session.delete(row)
        if service.settings.keep_days is None:
            return 0
        return self._remove_jobs(now - service.settings.keep_days * _DAY_SECONDS)

    def _remove_jobs(self, before: float) -> int:
        old = JobRow.state.in_(ENDED) & (JobRow.finished < before) & ~JobRow.kept
        removed = []
        with self._service.database.writing() as session:
            chosen = select(JobRow).where(old).order_by(JobRow.finished).limit(_AT_ONCE)
            for job in session.scalars(chosen.with_for_update(skip_locked=True)):
                if is_needed(session, job.id) is None:
                    session.delete(job)
                    session.flush()
                    removed.append(job.id)
        for id_ in removed:
            _log.info("removes job=%s, which ended long ago", id_)
            forget_job(self._service, id_)
        return len(removed)
