"""What happens to a job, in the database: events, trials, leases. The database is the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from sqlalchemy import or_, select, tuple_, update
from sqlalchemy.orm import Session

from api.announcements import announce
from api.database import Database, clock_of
from api.device_lanes import free_lane, waits_for_one_that_is_free
from api.run_history import note_end, note_new_beginning
from api.tables import EventRow, JobRow, LaneRow, TrialRow
from autosparse.errors import AutoSparseError


class LeaseLostError(AutoSparseError):
    """Raised to a runner that was silent for too long: the job is another's now."""


def add_event(session: Session, job: JobRow, kind: str, data: Mapping[str, Any]) -> None:
    """Append to a job's events; the session writes, and holds the job's row."""
    job.events += 1
    session.add(
        EventRow(job=job.id, sequence=job.events, kind=kind, at=time.time(), data=dict(data))
    )


def move(session: Session, job: JobRow, state: str, **data: Any) -> None:
    """Put a job into another state, and tell so."""
    job.state = state
    if state in ("finished", "failed", "cancelled"):
        job.finished = time.time()
        note_end(session, job)
        told = {"job": job.id, "kind": job.kind, "name": job.name, "verdict": job.verdict}
        announce(session, job.owner, f"job.{state}", told)
    elif state == "queued":
        note_new_beginning(session, job)
    if state != "running":
        job.runner = job.lease_until = None
    add_event(session, job, "state", {"state": state, **data})


def locked(session: Session, job_id: str) -> JobRow | None:
    """A job's row, which nobody else changes until the session ends."""
    return session.get(JobRow, job_id, with_for_update=True)


class JobLease:
    """One runner's hold on one job: everything it stores is refused once the hold is lost.

    With it go the lanes of the devices that are this job's alone meanwhile.
    """

    def __init__(self, database: Database, job_id: str, runner: str, device: str) -> None:
        self._database = database
        self.job_id = job_id
        self._runner = runner
        self.device = device
        """Where it measures."""

    def _held(self, session: Session) -> JobRow:
        job = locked(session, self.job_id)
        if job is None or job.runner != self._runner or job.state != "running":
            raise LeaseLostError(f"the job {self.job_id} is no longer this runner's")
        return job

    def beat(self, lease_seconds: float, progress: Mapping[str, Any] | None) -> bool:
        """Prolong the hold, and tell where the job is.

        Returns:
            Whether somebody asked to cancel it.

        Raises:
            LeaseLostError: too late.
        """
        with self._database.writing() as session:
            job = self._held(session)
            job.lease_until = until = clock_of(session) + lease_seconds
            if progress is not None:
                job.progress = dict(progress)
            session.execute(
                update(LaneRow)
                .where(LaneRow.note == self.job_id, LaneRow.runner == self._runner)
                .values(until=until)
            )
            return job.cancel_requested

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Store an event."""
        with self._database.writing() as session:
            add_event(session, self._held(session), kind, data)

    def trial(self, record: dict[str, Any], best_recipe: str | None) -> None:
        """Store a trial and its event together, unless it is known already."""
        with self._database.writing() as session:
            _add_trial(session, self._held(session), record, best_recipe)

    def snapshot(self, name: str, trials: Iterable[tuple[dict[str, Any], str | None]]) -> None:
        """Store the name of a snapshot together with the trials that it has: both, or neither.

        Args:
            name: of the snapshot, which is complete.
            trials: records, each with the recipe that was the best one then.

        Raises:
            LeaseLostError: too late; what another runner kept stays the last one.
        """
        with self._database.writing() as session:
            job = self._held(session)
            job.snapshot = name
            for record, best_recipe in trials:
                _add_trial(session, job, record, best_recipe)

    def beat_while(self, lease_seconds: float, work: Callable[[], object]) -> None:
        """Prolong the hold while something else takes its time; what that raises is raised.

        Raises:
            LeaseLostError: too late, although the work was done to its end.
        """
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(work)
            while not done.done():
                self.beat(lease_seconds, None)
                wait([done], min(lease_seconds / 4, 1.0))
            done.result()

    def end(self, state: str, *, wait_seconds: float | None = None, **values: Any) -> None:
        """Give the job back: finished, failed, cancelled, or queued once more.

        Args:
            state: that it is in then.
            wait_seconds: before which nobody takes it again.
            **values: of its row.

        Raises:
            LeaseLostError: too late.
        """
        with self._database.writing() as session:
            job = self._held(session)
            if wait_seconds is not None:
                job.not_before = clock_of(session) + wait_seconds
            for name, value in values.items():
                setattr(job, name, value)
            if state == "finished":
                _tell_regressions(session, job)
            told = {k: v for k, v in values.items() if k in ("verdict", "problem")}
            if state == "queued" and job.cancel_requested:
                state = "cancelled"
            move(session, job, state, **told)
            session.execute(
                update(LaneRow)
                .where(LaneRow.note == self.job_id, LaneRow.runner == self._runner)
                .values(until=0.0, runner=None, note="")
            )

    def conclude(self, state: str, values: Mapping[str, Any]) -> None:
        """Store how the job ends, before it is delivered: whatever happens then, it has ended."""
        with self._database.writing() as session:
            self._held(session).concluded = {"state": state, "values": dict(values)}

    def best_record(self) -> dict[str, Any] | None:
        """The record of the best trial so far."""
        with self._database.reading() as session:
            return best_record(session, session.get(JobRow, self.job_id))


def _add_trial(
    session: Session, job: JobRow, record: dict[str, Any], best_recipe: str | None
) -> None:
    recipe, environment = record["evidence"]["recipe_id"], record["environment"]
    job.best_recipe = best_recipe or job.best_recipe
    mine = select(TrialRow).where(TrialRow.job == job.id)
    same = mine.where(TrialRow.recipe == recipe, TrialRow.environment == environment)
    if session.scalar(same) is not None:
        return
    last = session.scalar(mine.order_by(TrialRow.number.desc()).limit(1))
    number = 1 if last is None else last.number + 1
    job.attempts = 1  # it gets ahead: what ends it again and again is not the job
    session.add(
        TrialRow(job=job.id, number=number, recipe=recipe, environment=environment, record=record)
    )
    evidence = record["evidence"]
    add_event(
        session, job, "trial",
        {"number": number, "recipe_id": recipe, "drop": evidence["drop"],
         "latency_ratio": evidence["latency_ratio"],
         "latency_seconds": record["latency_seconds"], "best": best_recipe},
    )  # fmt: skip


def _tell_regressions(session: Session, job: JobRow) -> None:
    """A bundle that was measured again has become worse: an event, and a call."""
    worse = (job.outcome or {}).get("regressions")
    if worse:
        told = {"regressions": worse, "of": job.request.get("job")}
        add_event(session, job, "regression", told)
        announce(session, job.owner, "regression", {"job": job.id, "name": job.name, **told})


def best_record(session: Session, job: JobRow | None) -> dict[str, Any] | None:
    """The record of a job's best trial so far."""
    return None if job is None else best_records(session, [job]).get(job.id)


def best_records(session: Session, jobs: Sequence[JobRow]) -> dict[str, dict[str, Any]]:
    """The records of jobs' best trials so far, by the job's id: one look for all of them."""
    best = [(job.id, job.best_recipe) for job in jobs if job.best_recipe is not None]
    chosen = select(TrialRow).where(tuple_(TrialRow.job, TrialRow.recipe).in_(best))
    rows = session.scalars(chosen.order_by(TrialRow.number)) if best else ()
    return {row.job: row.record for row in rows}  # measured again elsewhere, the last one counts


def make_lane(database: Database, device: str) -> None:
    """See that the device has a measurement lane."""
    with database.reading() as session:
        if session.get(LaneRow, device) is not None:
            return
    with database.writing() as session:
        database.hold(session, f"lane {device}")
        if session.get(LaneRow, device) is None:
            session.add(LaneRow(device=device, runner=None, until=0.0, note=""))


def take_job(
    database: Database, runner: str, device: str, lease_seconds: float, max_attempts: int
) -> JobLease | None:
    """Take the next job to do, with the measurement lanes of this device and of the job's.

    A job whose runner has been silent for longer than its lease is taken, too: it goes on where
    its files are. On PostgreSQL runners do not wait for each other's rows; SQLite has one writer.

    Returns:
        None where there is nothing to do here, or another job measures on a device of the two.
    """
    with database.writing() as session:
        now = clock_of(session)
        own = free_lane(session, device, runner, now)
        if own is None:
            return None
        # a runner that asks does nothing: what is still its own, it lost hold of for a moment
        left = (JobRow.lease_until < now) | (JobRow.runner == runner)
        may_begin = JobRow.not_before.is_(None) | (JobRow.not_before <= now)
        waits = (JobRow.state == "queued") & may_begin
        to_do = or_(waits, (JobRow.state == "running") & left)
        is_here = or_(
            JobRow.device.is_(None), JobRow.device == device,
            waits_for_one_that_is_free(runner, now), JobRow.cancel_requested,
        )  # fmt: skip
        job = session.scalar(
            select(JobRow)
            .where(to_do, is_here)
            .order_by(JobRow.priority.desc(), JobRow.created)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if job is None:
            return None
        if job.cancel_requested:
            move(session, job, "cancelled")
            return None
        if job.attempts >= max_attempts:
            problem = {"type": "urn:autosparse:problem:internal", "title": "Internal problem",
                       "status": 500, "detail": f"it ended {job.attempts} times without an answer",
                       "retryable": True}  # fmt: skip
            job.problem = problem
            move(session, job, "failed", problem=problem)
            return None
        measures_on = job.device or device
        theirs = free_lane(session, measures_on, runner, now)
        if theirs is None:  # another runner was quicker
            return None
        job.attempts += 1
        job.runner, job.lease_until = runner, now + lease_seconds
        job.started, job.problem = now, None
        job.ran_on, job.not_before = measures_on, None
        for lane in (own, theirs):
            lane.runner, lane.until, lane.note = runner, job.lease_until, job.id
        move(session, job, "running", attempt=job.attempts)
        return JobLease(database, job.id, runner, measures_on)
