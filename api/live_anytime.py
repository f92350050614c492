"""How good the best answer of a job was after how much work, read off what was told of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.live_front import contract_of, last_trial
from api.service import Service
from api.tables import EventRow, JobRow
from autosparse.artifacts.anytime_chart import (
    AnytimeSource,
    Found,
    Moment,
    render_anytime,
)

# The curve of a job at work goes on to the right; whoever loads the page again may see it.
_AGAIN_SECONDS = 10.0
_AT_REST = frozenset({"queued", "finished", "failed", "cancelled"})


def live_anytime(service: Service, session: Session, job: JobRow) -> bytes:
    """The curve as a piece of HTML: drawn anew when something has happened, or time has gone by.

    Raises:
        NotFoundError: there is no trial yet.
    """
    passed = time.time() // _AGAIN_SECONDS if job.state == "running" else 0
    draw = partial(_drawn, service, session, job)
    return service.texts.get(f"anytime of {job.id}", (job.events, passed), draw)


def _drawn(service: Service, session: Session, job: JobRow) -> str:
    last = last_trial(session, job)
    told = select(EventRow).where(EventRow.job == job.id, EventRow.kind.in_(("state", "trial")))
    events = list(session.scalars(told.order_by(EventRow.sequence)))
    clock = _WorkClock()
    moments = tuple(_moments(events, clock))
    return render_anytime(
        AnytimeSource(
            moments=moments,
            seconds=clock.worked(time.time()),
            contract=contract_of(service, job, last),
            metric=last.quality.metric,
        )
    )


class _WorkClock:
    """Counts the time in which a job was run, not that in which it waited."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    def note(self, state: str, at: float) -> None:
        """The job went into a state."""
        if state == "running" or state in _AT_REST:
            self._before = self.worked(at)
            self._since = at if state == "running" else None

    def worked(self, now: float) -> float:
        """Seconds of work up to a time."""
        return self._before + (0.0 if self._since is None else max(0.0, now - self._since))


def _moments(events: Iterable[EventRow], clock: _WorkClock) -> Iterator[Moment]:
    """The ends of the trials; of one whose best is not told, the best stays what it was."""
    found: dict[str, Found] = {}
    best: str | None = None
    for event in events:
        data = event.data
        if event.kind == "state":
            clock.note(data["state"], event.at)
            continue
        mine = data["recipe_id"]
        found[mine] = Found(data["drop"], data["latency_ratio"])
        is_new = data["best"] == mine and best != mine
        best = data["best"] or best
        yield Moment(
            seconds=clock.worked(event.at), number=data["number"], trial=found[mine],
            best=None if best is None else found.get(best), is_new_best=is_new,
        )  # fmt: skip
