"""The fronts of running jobs, asked for again and again: what is read is what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.tables import JobRow, TrialRow
from api.trials import trial_info
from autosparse.client.records import TrialInfo
from autosparse.evaluation.dominance import dominators

_MOST_JOBS, _MOST_POINTS = 64, 100_000
# A trial's record holds the level of every layer: of thousands, so many are in memory at a time.
_AT_ONCE = 100


@dataclass(frozen=True)
class _Point:
    """What decides whether a trial is on the front."""

    number: int
    drop: float
    latency_ratio: float
    size_bytes: int | None
    peak_memory_bytes: int | None

    @classmethod
    def of(cls, trial: TrialInfo) -> _Point:
        return cls(
            trial.number, trial.drop, trial.latency_ratio, trial.size_bytes,
            trial.peak_memory_bytes,
        )  # fmt: skip

    @property
    def objectives(self) -> tuple[float | None, ...]:
        return self.drop, self.latency_ratio, self.size_bytes, self.peak_memory_bytes


@dataclass
class _Known:
    """One job's trials so far; none ever changes."""

    points: list[_Point] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Fronts:
    """Remembers four figures of each trial, of the jobs that were asked for last."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def front(self, session: Session, job: JobRow) -> list[TrialInfo]:
        """Trials that none beats in drop, latency, size or memory without losing, fastest first."""
        known = self._known(job.id)
        with known.lock:
            _read_on(session, job, known.points)
            visible = _last_of(session, job)
            numbers = _front([point for point in known.points if point.number <= visible])
        self._forget(job.id)
        chosen = select(TrialRow).where(TrialRow.job == job.id, TrialRow.number.in_(numbers))
        told = {row.number: trial_info(row.number, row.record) for row in session.scalars(chosen)}
        # a job may be deleted meanwhile
        return [told[number] for number in numbers if number in told]

    def _known(self, job: str) -> _Known:
        with self._lock:
            known = self._jobs.setdefault(job, _Known())
            self._jobs.move_to_end(job)
            return known

    def _forget(self, asked: str) -> None:
        """Keep so many, the one that was asked for among them."""
        with self._lock:
            points = sum(len(known.points) for known in self._jobs.values())
            while len(self._jobs) > _MOST_JOBS or points > _MOST_POINTS:
                job, known = next(iter(self._jobs.items()))
                if job == asked:
                    return
                points -= len(known.points)
                del self._jobs[job]


def _read_on(session: Session, job: JobRow, points: list[_Point]) -> None:
    """Take in the trials behind the last one that is known."""
    while True:
        last = points[-1].number if points else 0
        behind = select(TrialRow.number, TrialRow.record).where(
            TrialRow.job == job.id, TrialRow.number > last
        )
        new = session.execute(behind.order_by(TrialRow.number).limit(_AT_ONCE)).all()
        points.extend(_Point.of(trial_info(number, record)) for number, record in new)
        if len(new) < _AT_ONCE:
            return


def _last_of(session: Session, job: JobRow) -> int:
    """The last trial that this session sees: another one, begun later, may have read on since."""
    return session.scalar(select(func.max(TrialRow.number)).where(TrialRow.job == job.id)) or 0


def _front(points: Sequence[_Point]) -> list[int]:
    """Numbers of the trials on the front, the fastest first."""
    ordered = sorted(points, key=lambda p: (p.latency_ratio, p.drop))
    beaten_by = dominators([point.objectives for point in ordered])
    return [p.number for p, by in zip(ordered, beaten_by, strict=True) if by is None]
