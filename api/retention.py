"""What is removed by itself: old jobs and deliveries, files of what was forgotten or broke off."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy import delete, select

from api.jobs import forget_job, forget_row, is_needed
from api.json_logs import about
from api.service import Service
from api.tables import DeliveryRow, ForgottenRow, JobRow, PendingRow
from autosparse.client.records import ENDED

_log = logging.getLogger("autosparse.retention")
_DAY_SECONDS = 86400.0
_DELIVERY_DAYS = 30.0
_AT_ONCE = 200


def trim_copies(service: Service) -> None:
    """Remove copies of uploads that have too much together; none that an unfinished job needs.

    A directory that belongs to no job is one that is being looked at, and its uploads stay, too.
    """
    linked = service.files.linked_by_jobs()
    with service.database.reading() as session:
        ended = JobRow.id.in_(linked) & JobRow.state.in_(ENDED)
        over = set(session.scalars(select(JobRow.id).where(ended)))
    needed = {digest for job, found in linked.items() if job not in over for digest in found}
    service.files.trim_copies(service.settings.max_copy_bytes, needed)


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
        days = service.settings.keep_days
        removed = 0 if days is None else self._remove_jobs(now - days * _DAY_SECONDS)
        self._remove_files()
        if service.settings.own_home:
            self._remove_copies()
        return removed

    def _remove_jobs(self, before: float) -> int:
        old = JobRow.state.in_(ENDED) & (JobRow.finished < before) & ~JobRow.kept
        removed = []
        with self._service.database.writing() as session:
            chosen = select(JobRow).where(old).order_by(JobRow.finished).limit(_AT_ONCE)
            for job in session.scalars(chosen.with_for_update(skip_locked=True)):
                if is_needed(session, job.id) is None:
                    forget_row(session, job)
                    removed.append(job.id)
        for id_ in removed:
            _log.info("removes what ended long ago", extra=about(job=id_))
        return len(removed)

    def _remove_copies(self) -> None:
        """Remove files of jobs that have ended: the artifacts' store has them, too."""
        for id_ in self._service.files.jobs_before(self._clock() - _DAY_SECONDS):
            with self._service.database.reading() as session:
                row = session.get(JobRow, id_)
                has_ended = row is None or row.state in ENDED
                if has_ended and is_needed(session, id_) is None:
                    self._service.files.forget_job(id_)

    def _remove_files(self) -> None:
        """Remove what is left of forgotten jobs; a store that is away is asked the next time."""
        with self._service.database.reading() as session:
            forgotten = list(session.scalars(select(ForgottenRow.job).limit(_AT_ONCE)))
        for id_ in forgotten:
            forget_job(self._service, id_)
