"""Begins what schedules are due for. Any number of these may run: none begins a run twice.

What is due is decided in one transaction that holds the schedule's row, and written down as a run.
Beginning a run takes seconds, since its job is checked as any other: a claim with an end keeps
others away from it meanwhile, and the job carries the run's id as its idempotency key, so that one
that is begun again after a crash leads to the same job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.announcements import announce
from api.cron import Cron
from api.jobs import cancel_row
from api.json_logs import about
from api.keys import SCOPES, Caller
from api.problem_details import problem_of
from api.run_history import note_end
from api.schedules import new_run, open_runs
from api.service import Service
from api.submission import accept_job
from api.tables import JobRow, KeyRow, RunRow, ScheduleRow
from autosparse.client.records import ENDED
from autosparse.errors import ForbiddenError, UserInputError, WorkerError

_log = logging.getLogger("autosparse.scheduler")
GRACE_SECONDS = 60.0
"""A run that is begun so late was not missed."""
_CLAIM_SECONDS = 600.0
_MOST_MADE_UP_FOR = 24
_AT_ONCE = 20


class Scheduler:
    """Looks for schedules that are due, and begins their runs.

    Args:
        service: where they are.
        clock: seconds since 1970.
    """

    def __init__(self, service: Service, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._clock = clock

    def tick(self) -> int:
        """Do what is due now.

        Returns:
            How many jobs were begun.
        """
        now = self._clock()
        self._decide(now)
        begun = 0
        while (claimed := self._claim(now)) is not None:
            begun += self._begin(*claimed)
        return begun

    def _decide(self, now: float) -> None:
        due = (ScheduleRow.next_due <= now) & ~ScheduleRow.paused
        with self._service.database.reading() as session:
            if session.scalar(select(ScheduleRow.id).where(due).limit(1)) is None:
                return  # on SQLite, looking keeps nobody from writing
        with self._service.database.writing() as session:
            chosen = select(ScheduleRow).where(due).order_by(ScheduleRow.next_due).limit(_AT_ONCE)
            for schedule in session.scalars(chosen.with_for_update(skip_locked=True)):
                _decide_one(session, schedule, now)

    def _claim(self, now: float) -> tuple[RunRow, ScheduleRow] | None:
        """Take a run to begin: one that nobody has, or whose taker has been silent for long."""
        waits = or_(
            RunRow.state == "due", (RunRow.state == "starting") & (RunRow.claimed_until < now)
        )
        with self._service.database.reading() as session:
            if session.scalar(select(RunRow.id).where(waits).limit(1)) is None:
                return None
        with self._service.database.writing() as session:
            chosen = select(RunRow).where(waits).order_by(RunRow.due).limit(1)
            run = session.scalar(chosen.with_for_update(skip_locked=True))
            if run is None:
                return None
            run.state, run.claimed_until = "starting", now + _CLAIM_SECONDS
            schedule = session.get_one(ScheduleRow, run.schedule)
            return run, schedule

    def _begin(self, run: RunRow, schedule: ScheduleRow) -> bool:
        caller = Caller(schedule.owner, frozenset(SCOPES))
        request = {**schedule.request, "name": schedule.request.get("name") or schedule.name}
        try:
            self._check_owner(schedule)
            job, _ = accept_job(self._service, caller, schedule.kind, request, run.id)
        except UserInputError as error:
            self._refuse(run, schedule.owner, error)
            return False
        except WorkerError as error:
            # not the schedule's fault: the claim ends, and it is tried again
            _log.warning("cannot be begun yet: %s", error.message, extra=about(run=run.id))
            return False
        told = about(run=run.id, job=job.id, schedule=schedule.id)
        _log.info("begins a run", extra=told)
        with self._service.database.writing() as session:
            return _note_begin(session, run.id, job.id)

    def _check_owner(self, schedule: ScheduleRow) -> None:
        with self._service.database.reading() as session:
            if session.get_one(KeyRow, schedule.owner).revoked is not None:
                raise ForbiddenError("the schedule's key was revoked", hint="make a new schedule")

    def _refuse(self, run: RunRow, owner: str, error: UserInputError) -> None:
        _log.warning("is refused: %s", error.message, extra=about(run=run.id))
        problem = problem_of(error).model_dump(mode="json")
        with self._service.database.writing() as session:
            current = session.get(RunRow, run.id, with_for_update=True)
            if current is not None and current.state == "starting":
                current.state, current.reason, current.claimed_until = (
                    "refused",
                    error.message,
                    None,
                )
                current.ended, current.outcome = self._clock(), {"problem": problem}
                told = {"run": run.id, "schedule": run.schedule, "detail": error.message}
                announce(session, owner, "schedule.refused", told)


def _note_begin(session: Session, run_id: str, job_id: str) -> bool:
    """Write down which job a run is; whoever ends a job holds the job first, and so does this."""
    job = session.get_one(JobRow, job_id, with_for_update=True)
    run = session.get(RunRow, run_id, with_for_update=True)
    if run is None or run.state != "starting":  # replaced, or deleted, meanwhile
        cancel_row(session, job)
        return False
    run.state, run.claimed_until, run.job = "started", None, job_id
    if job.state in ENDED:  # it was quick
        session.flush()
        note_end(session, job)
    return True


def _decide_one(session: Session, schedule: ScheduleRow, now: float) -> None:
    """Write down the runs of a schedule that are due, and when it is due next."""
    cron = Cron(schedule.cron, schedule.time_zone)
    first = schedule.next_due if schedule.next_due is not None else now
    last, before = cron.due_between(first, now)
    schedule.next_due = cron.next_after(now)
    in_time = now - last <= GRACE_SECONDS
    late = before if in_time else before + 1
    if schedule.missed == "skip" or late == 0:
        if late:
            told = f"{late} missed" if late > 1 else "missed"
            session.add(
                new_run(schedule, "cron", first, state="missed", missed=late - 1, now=now,
                        reason=f"{told} while the service was down")
            )  # fmt: skip
        if in_time:
            _run(session, schedule, last, 0, now)
    elif schedule.missed == "once":
        _run(session, schedule, last, before, now)
    else:
        _make_up_for_all(session, schedule, (first, last, before), now)


def _make_up_for_all(
    session: Session, schedule: ScheduleRow, due: tuple[float, float, int], now: float
) -> None:
    """A run for every time, the oldest first; of very many, the last of them."""
    first, last, before = due
    cron = Cron(schedule.cron, schedule.time_zone)
    times = [last]
    while len(times) < _MOST_MADE_UP_FOR and times[-1] > first:
        earlier = cron.last_before(times[-1])
        if earlier is None:
            break
        times.append(earlier)
    for number, when in enumerate(reversed(times)):
        left_out = before + 1 - len(times) if number == 0 else 0
        _run(session, schedule, when, left_out, now)


def _run(session: Session, schedule: ScheduleRow, due: float, missed: int, now: float) -> None:
    """A run that is due, unless a former one keeps it from beginning."""
    former = list(session.scalars(open_runs(schedule.id)))
    if former and schedule.overlap == "skip":
        session.add(
            new_run(schedule, "cron", due, state="skipped", missed=missed, now=now,
                    reason=f"the run {former[0].id} had not ended")
        )  # fmt: skip
        return
    if schedule.overlap == "replace":
        for run in former:
            _replace(session, run)
    session.add(new_run(schedule, "cron", due, missed=missed, now=now))
    session.flush()


def _replace(session: Session, run: RunRow) -> None:
    if run.job is None:  # whoever begins it just now will notice
        run.state, run.reason = "skipped", "the next one came before it had begun"
        return
    job = session.get(JobRow, run.job, with_for_update=True)
    if job is not None:
        cancel_row(session, job)
