"""Figures of what there is now, for Prometheus: read off the database when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.database import Database, clock_of
from api.tables import DeliveryRow, EventRow, JobRow, LaneRow, UploadRow

_STATES = ("queued", "running", "finished", "failed", "cancelled")
_DELIVERY_STATES = ("waiting", "delivered", "failed")


def gauges(database: Database) -> CollectorRegistry:
    """How things are, for everybody's jobs together."""
    registry = CollectorRegistry()
    with database.reading() as session:
        _add_jobs(registry, session)
        _add_runners(registry, session)
        _add_deliveries(registry, session)
        stored = Gauge("autosparse_stored_bytes", "Uploads together", registry=registry)
        stored.set(session.scalar(select(func.sum(UploadRow.size_bytes))) or 0)
    return registry


def _count_states(
    gauge: Gauge, session: Session, column: InstrumentedAttribute[str], states: Sequence[str]
) -> None:
    """Rows of a table by state; 0 for a state that none is in."""
    counts = select(column, func.count()).group_by(column)
    found = {row[0]: row[1] for row in session.execute(counts)}
    for state in states:
        gauge.labels(state).set(found.get(state, 0))


def _add_jobs(registry: CollectorRegistry, session: Session) -> None:
    jobs = Gauge("autosparse_jobs", "Jobs by state", ["state"], registry=registry)
    _count_states(jobs, session, JobRow.state, _STATES)
    oldest = Gauge(
        "autosparse_queue_oldest_seconds",
        "How long the job has waited that waits longest; 0 where none waits", registry=registry,
    )  # fmt: skip
    # a job that was resumed, or given back, waits since then
    since = (
        select(func.max(EventRow.at))
        .join(JobRow, JobRow.id == EventRow.job)
        .where(JobRow.state == "queued", EventRow.kind == "state")
        .group_by(EventRow.job)
    )
    now = time.time()  # the clock that events are stored by
    oldest.set(max((now - at for at in session.scalars(since)), default=0.0))


def _add_runners(registry: CollectorRegistry, session: Session) -> None:
    lanes = Gauge(
        "autosparse_lane_lease_until_seconds", "Until when a device's lane is taken", ["device"],
        registry=registry,
    )  # fmt: skip
    for lane in session.scalars(select(LaneRow)):
        lanes.labels(lane.device).set(lane.until)
    left = Gauge(
        "autosparse_lease_left_seconds",
        "Until the lease of the job ends that runs on a device; below 0 its runner is silent",
        ["device"], registry=registry,
    )  # fmt: skip
    now = clock_of(session)
    running = select(JobRow.ran_on, JobRow.lease_until).where(JobRow.state == "running")
    for device, until in session.execute(running):
        left.labels(device or "").set((until or now) - now)


def _add_deliveries(registry: CollectorRegistry, session: Session) -> None:
    told = Gauge(
        "autosparse_webhook_deliveries",
        "What webhooks were told, or are to be, by state; of 30 days", ["state"], registry=registry,
    )  # fmt: skip
    _count_states(told, session, DeliveryRow.state, _DELIVERY_STATES)
    failing = Gauge(
        "autosparse_webhook_failing",
        "Of those that wait, what was tried in vain and is tried again", registry=registry,
    )  # fmt: skip
    tried = (DeliveryRow.state == "waiting") & (DeliveryRow.attempts > 0)
    failing.set(session.scalar(select(func.count()).select_from(DeliveryRow).where(tried)) or 0)
