"""The database: keys, uploads, jobs, their trials and events, leases, schedules, webhooks.

Times are UTC seconds.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_ID, _DIGEST, _NAME, _KIND = String(40), String(64), String(200), String(16)


class Base(DeclarativeBase):
    """Where every table is known."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[str]: JSON}


class KeyRow(Base):
    """A bearer key; of its secret only the digest."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(_NAME)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    scopes: Mapped[list[str]]
    created: Mapped[float]
    revoked: Mapped[float | None]


class UploadRow(Base):
    """A model or a dataset of one key. The bytes are shared by everybody who uploaded them."""

    __tablename__ = "uploads"
    __table_args__ = (Index("uploads_by_owner", "owner", "kind", "created"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    owner: Mapped[str] = mapped_column(_ID, ForeignKey("keys.id"))
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(_NAME)
    sha256: Mapped[str] = mapped_column(_DIGEST, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[float]
    found: Mapped[dict[str, Any]]
    """What the intake found in it."""


class PendingRow(Base):
    """An upload that arrives in pieces."""

    __tablename__ = "pending_uploads"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    owner: Mapped[str] = mapped_column(_ID, ForeignKey("keys.id"), index=True)
    kind: Mapped[str] = mapped_column(_KIND)
    name: Mapped[str] = mapped_column(_NAME)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[float]


class TargetRow(Base):
    """A stored target file."""

    __tablename__ = "targets"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    owner: Mapped[str] = mapped_column(_ID, ForeignKey("keys.id"), index=True)
    name: Mapped[str] = mapped_column(_NAME)
    created: Mapped[float]
    document: Mapped[dict[str, Any]]


class JobRow(Base):
    """A job, and who works on it until when."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index("jobs_by_owner", "owner", "created"),
        Index("jobs_to_do", "state", "priority", "created"),
        Index("jobs_by_end", "finished"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    owner: Mapped[str] = mapped_column(_ID, ForeignKey("keys.id"))
    kind: Mapped[str] = mapped_column(_KIND, default="search")
    """What it does: `search`, `resolve`, `reverify` or `refresh_atlas`."""
    name: Mapped[str] = mapped_column(_NAME)
    idempotency_key: Mapped[str | None] = mapped_column(_NAME)
    request_digest: Mapped[str] = mapped_column(_DIGEST)
    state: Mapped[str] = mapped_column(String(12))
    request: Mapped[dict[str, Any]]
    config: Mapped[dict[str, Any]]
    """What its process is given, with paths relative to the job's directory."""
    priority: Mapped[int]
    created: Mapped[float]
    started: Mapped[float | None]
    finished: Mapped[float | None]
    attempts: Mapped[int]
    cancel_requested: Mapped[bool]
    runner: Mapped[str | None] = mapped_column(_NAME)
    lease_until: Mapped[float | None]
    events: Mapped[int]
    """Sequence of its last event."""
    progress: Mapped[dict[str, Any] | None]
    best_recipe: Mapped[str | None] = mapped_column(_DIGEST)
    verdict: Mapped[str | None] = mapped_column(String(40))
    problem: Mapped[dict[str, Any] | None]
    manifest: Mapped[dict[str, Any] | None]
    outcome: Mapped[dict[str, Any] | None]
    """What a job that delivers no bundle found."""
    kept: Mapped[bool] = mapped_column(default=False)
    """Whether it stays however long ago it ended."""
    device: Mapped[str | None] = mapped_column(_NAME)
    """The device that it is for; None for any."""
    ran_on: Mapped[str | None] = mapped_column(_NAME)
    """The device that it was begun on last."""
    concluded: Mapped[dict[str, Any] | None]
    """Its end, where it has come to one and could not be delivered yet."""
    not_before: Mapped[float | None]
    """When a waiting job may be taken again."""
    snapshot: Mapped[str | None] = mapped_column(String(120))
    """The last snapshot of its files, where homes are not shared."""


class ForgottenRow(Base):
    """A job that was deleted, until nothing of its files is left anywhere."""

    __tablename__ = "forgotten_jobs"

    job: Mapped[str] = mapped_column(_ID, primary_key=True)
    since: Mapped[float]


class JobUploadRow(Base):
    """Which uploads and targets a job needs: they stay as long as it does.

    An unfinished job may need another job, too.
    """

    __tablename__ = "job_uploads"

    job: Mapped[str] = mapped_column(
        _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    upload: Mapped[str] = mapped_column(_ID, primary_key=True, index=True)


class TrialRow(Base):
    """One finished trial, once, whoever tells of it how often."""

    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("job", "recipe", "environment"),)

    job: Mapped[str] = mapped_column(
        _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    recipe: Mapped[str] = mapped_column(_DIGEST)
    environment: Mapped[str] = mapped_column(_DIGEST)
    record: Mapped[dict[str, Any]]


class EventRow(Base):
    """Something that happened to a job; sequences of one job have no gaps."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("job", "sequence"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job: Mapped[str] = mapped_column(_ID, ForeignKey("jobs.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    kind: Mapped[str] = mapped_column(String(20))
    at: Mapped[float]
    data: Mapped[dict[str, Any]]


class LaneRow(Base):
    """A device's measurement lane: who has it until when. One job at a time measures there."""

    __tablename__ = "lanes"

    device: Mapped[str] = mapped_column(_NAME, primary_key=True)
    runner: Mapped[str | None] = mapped_column(_NAME)
    until: Mapped[float]
    note: Mapped[str] = mapped_column(Text)
    """The job that has it."""


class DeviceRow(Base):
    """A device that offered itself: an agent listens there. Its lane is that of its name."""

    __tablename__ = "devices"

    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    owner: Mapped[str] = mapped_column(_ID, ForeignKey("keys.id"), index=True)
    shared: Mapped[bool]
    """Whether jobs of every key may go there."""
    address: Mapped[str] = mapped_column(_NAME)
    """`IP:PORT` of the agent."""
    secret: Mapped[str] = mapped_column(_NAME)
    """What the agent and whoever connects to it prove to each other that they hold."""
    environment: Mapped[dict[str, Any]]
    """What the agent said of the device."""
    joined: Mapped[float]
    until: Mapped[float]
    """It is away from then on, unless its agent says again that it is there."""


class ScheduleRow(Base):
    """What is done again and again, and when next."""

    __tablename__ = "schedules"
    __table_args__ = (Index("schedules_by_owner", "owner", "created"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    owner: Mapped[str] = mapped_column(_ID, ForeignKey("keys.id"))
    name: Mapped[str] = mapped_column(_NAME)
    kind: Mapped[str] = mapped_column(_KIND)
    cron: Mapped[str] = mapped_column(_NAME)
    time_zone: Mapped[str] = mapped_column(_NAME)
    request: Mapped[dict[str, Any]]
    """What every run's job is asked."""
    missed: Mapped[str] = mapped_column(_KIND)
    overlap: Mapped[str] = mapped_column(_KIND)
    created: Mapped[float]
    paused: Mapped[bool]
    next_due: Mapped[float | None] = mapped_column(index=True)
    """None while it is paused, and where there is no such time any more."""


class ScheduleNeedRow(Base):
    """Which uploads, targets and jobs a schedule needs: they stay as long as it does."""

    __tablename__ = "schedule_needs"

    schedule: Mapped[str] = mapped_column(
        _ID, ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True
    )
    needed: Mapped[str] = mapped_column(_ID, primary_key=True, index=True)


class RunRow(Base):
    """One run of a schedule, or why there was none. It outlives its job."""

    __tablename__ = "schedule_runs"
    __table_args__ = (
        UniqueConstraint("schedule", "cause", "due"),
        Index("runs_by_schedule", "schedule", "created"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    schedule: Mapped[str] = mapped_column(_ID, ForeignKey("schedules.id", ondelete="CASCADE"))
    cause: Mapped[str] = mapped_column(_KIND)
    """`cron` or `hand`."""
    due: Mapped[float]
    missed: Mapped[int]
    """Earlier times that this run stands for, too."""
    created: Mapped[float]
    state: Mapped[str] = mapped_column(_KIND, index=True)
    """due, starting, started, ended; or skipped, missed, refused."""
    reason: Mapped[str] = mapped_column(Text)
    claimed_until: Mapped[float | None]
    job: Mapped[str | None] = mapped_column(_ID, index=True)
    ended: Mapped[float | None]
    outcome: Mapped[dict[str, Any] | None]


class WebhookRow(Base):
    """Somebody who is told what happens. The secret signs, so it is stored as it is."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    owner: Mapped[str] = mapped_column(_ID, ForeignKey("keys.id"), index=True)
    url: Mapped[str] = mapped_column(Text)
    kinds: Mapped[list[str]]
    """Empty for everything."""
    secret: Mapped[str] = mapped_column(_NAME)
    created: Mapped[float]


class DeliveryRow(Base):
    """Something that a webhook is told, until it was or is given up."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("deliveries_by_webhook", "webhook", "created"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    webhook: Mapped[str] = mapped_column(_ID, ForeignKey("webhooks.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(_ID)
    data: Mapped[dict[str, Any]]
    created: Mapped[float]
    state: Mapped[str] = mapped_column(_KIND)
    """waiting, delivered or failed."""
    attempts: Mapped[int]
    next_attempt: Mapped[float | None] = mapped_column(index=True)
    status: Mapped[int | None]
    problem: Mapped[str] = mapped_column(Text)


class TrackedRow(Base):
    """How far a tracking server has been told of a job."""

    __tablename__ = "tracked_jobs"

    job: Mapped[str] = mapped_column(
        _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    events: Mapped[int]
    """Sequence of the last event that it knows of, or that it was given up with."""
    attempts: Mapped[int]
    """How often it was tried since it last succeeded."""
    next_attempt: Mapped[float]
    """Not before; meanwhile, whoever tries has it to itself."""
    problem: Mapped[str] = mapped_column(Text)
    """What was wrong the last time; empty after a success."""
