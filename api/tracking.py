"""Tells a tracking server of jobs: beside them, from what the database has, and never in their way.

How far a server knows a job is a row of its own, moved on when all that was new was told. Whoever
goes on from there finds what is there already, so being killed in between, or telling it twice,
leaves one run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import func, or_, select

from api.deliverables import Deliverable, deliverables
from api.job_ledger import add_event, locked
from api.json_logs import about
from api.mlflow_runs import MlflowRuns
from api.recurring import recurring
from api.service import Service
from api.tables import JobRow, TrackedRow
from api.tracked_job import TrackedJob, read_tracked
from autosparse.client.records import ENDED
from autosparse.errors import ServiceError

_log = logging.getLogger("autosparse.tracking")
RETRY_SECONDS = (15.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 43200.0)
"""Waits after each attempt but the last."""
_CLAIM_SECONDS = 300.0
_LOOK_SECONDS = 5.0
_AT_ONCE = 20
_PROOF = (
    "report.html", "manifest.json", "recipe.yaml", "layers.csv", "environment.json", "atlas.html",
    "atlas.json",
)  # fmt: skip


class Recorder(Protocol):
    """Whoever speaks to a tracking server."""

    def record(self, job: TrackedJob, files: Mapping[str, Deliverable]) -> bool:
        """Tell the story of a job; what is known already is left as it is.

        Returns:
            Whether that was all: of very many trials, some are told at a time.

        Raises:
            ServiceError: the tracking server cannot be reached, or refuses something.
        """


class Tracker:
    """Tells of every job that has news; any number of these may run.

    Args:
        service: where jobs are.
        recorder: who is told.
        clock: seconds since 1970.
    """

    def __init__(
        self, service: Service, recorder: Recorder, clock: Callable[[], float] = time.time
    ) -> None:
        self._service = service
        self._recorder = recorder
        self._clock = clock

    def tick(self) -> int:
        """Tell of the jobs with news, one after the other, until one of them fails.

        Returns:
            How many were told of.
        """
        told = 0
        for id_ in self._with_news():
            claimed = self._claimed(id_)
            if claimed is None:
                continue
            if not self._tell(*claimed):
                # so would the next ones; each is tried when its time has come
                break
            told += 1
        return told

    def _with_news(self) -> list[str]:
        known = func.coalesce(TrackedRow.events, 0)
        is_due = or_(TrackedRow.job.is_(None), TrackedRow.next_attempt <= self._clock())
        with self._service.database.reading() as session:
            news = (
                select(JobRow.id)
                .outerjoin(TrackedRow, TrackedRow.job == JobRow.id)
                .where(JobRow.events > known, is_due)
                .order_by(JobRow.created)
                .limit(_AT_ONCE)
            )
            return list(session.scalars(news))

    def _claimed(self, id_: str) -> tuple[JobRow, int] | None:
        """The job, for this one to tell of, and its last event that is known there.

        None where somebody else tells of it.
        """
        now = self._clock()
        with self._service.database.writing() as session:
            job = locked(session, id_)
            if job is None:
                return None
            row = session.get(TrackedRow, id_)
            if row is None:
                row = TrackedRow(job=id_, events=0, attempts=0, next_attempt=0.0, problem="")
                session.add(row)
            if row.next_attempt > now or row.events >= job.events:
                return None
            row.attempts, row.next_attempt = row.attempts + 1, now + _CLAIM_SECONDS
            # what was given up, it was not told
            return job, 0 if row.problem else row.events

    def _tell(self, job: JobRow, known: int) -> bool:
        try:
            with self._service.database.reading() as session:
                story = read_tracked(session, job, known)
            is_all = self._recorder.record(story, self._proof(job))
        except ServiceError as error:
            self._note_failure(job, error)
            return False
        with self._service.database.writing() as session:
            row = session.get(TrackedRow, job.id)
            if row is not None:  # else the job was deleted meanwhile
                row.events = job.events if is_all else row.events
                row.attempts, row.next_attempt, row.problem = 0, 0.0, ""
        return True

    def _proof(self, job: JobRow) -> dict[str, Deliverable]:
        """Of what an ended job delivered, the small files that say how it came about."""
        if job.state not in ENDED:
            return {}
        found = deliverables(self._service, job.id)
        return {name: found[name] for name in _PROOF if name in found}

    def _note_failure(self, job: JobRow, error: ServiceError) -> None:
        """Wait longer and longer, then give it up until the job has more to tell."""
        with self._service.database.writing() as session:
            now = locked(session, job.id)
            row = session.get(TrackedRow, job.id)
            if now is None or row is None:
                return  # the job was deleted meanwhile
            given_up = row.attempts > len(RETRY_SECONDS)
            told = about(job=job.id, attempt=row.attempts, given_up=given_up)
            _log.warning("is not told of: %s", error.message, extra=told)
            # once, and behind the end of a job nobody listens any more
            if not row.problem and now.state not in ENDED:
                text = "the tracking server cannot be told of this job yet, and is told later"
                add_event(session, now, "note", {"text": text})
            row.problem = error.message
            if given_up:
                row.events, row.attempts, row.next_attempt = now.events, 0, 0.0
            else:
                row.next_attempt = self._clock() + RETRY_SECONDS[row.attempts - 1]


@contextmanager
def tracking(service: Service) -> Iterator[None]:
    """Tell the tracking server that the settings name, if they name one.

    Raises:
        NotInstalledError: the library that speaks to it is not there.
    """
    settings = service.settings
    if not settings.mlflow_tracking_uri:
        yield
        return
    recorder = MlflowRuns(settings.mlflow_tracking_uri, settings.mlflow_experiment)
    with recurring("tracking", Tracker(service, recorder).tick, _LOOK_SECONDS):
        yield
