"""The first schema: keys, uploads, targets, jobs, trials, events, lanes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID, _DIGEST, _NAME = sa.String(40), sa.String(64), sa.String(200)


def upgrade() -> None:
    """Make every table."""
    _keys_and_uploads()
    _jobs()
    _evidence()


def _keys_and_uploads() -> None:
    op.create_table(
        "keys",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("revoked", sa.Double),
    )
    op.create_table(
        "uploads",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("found", sa.JSON, nullable=False),
    )
    op.create_index("uploads_by_owner", "uploads", ["owner", "kind", "created"])
    op.create_index("ix_uploads_sha256", "uploads", ["sha256"])
    op.create_table(
        "targets",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_targets_owner", "targets", ["owner"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("idempotency_key", _NAME),
        sa.Column("request_digest", _DIGEST, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("started", sa.Double),
        sa.Column("finished", sa.Double),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("runner", _NAME),
        sa.Column("lease_until", sa.Double),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("progress", sa.JSON),
        sa.Column("best_recipe", _DIGEST),
        sa.Column("verdict", sa.String(40)),
        sa.Column("problem", sa.JSON),
        sa.Column("manifest", sa.JSON),
        sa.UniqueConstraint("owner", "idempotency_key"),
    )
    op.create_index("jobs_by_owner", "jobs", ["owner", "created"])
    op.create_index("jobs_to_do", "jobs", ["state", "priority", "created"])
    op.create_table(
        "job_uploads",
        sa.Column("job", _ID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("upload", _ID, primary_key=True),
    )
    op.create_index("ix_job_uploads_upload", "job_uploads", ["upload"])


def _evidence() -> None:
    op.create_table(
        "trials",
        sa.Column("job", _ID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("recipe", _DIGEST, nullable=False),
        sa.Column("environment", _DIGEST, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.UniqueConstraint("job", "recipe", "environment"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("job", _ID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.UniqueConstraint("job", "sequence"),
    )
    op.create_table(
        "lanes",
        sa.Column("device", _NAME, primary_key=True),
        sa.Column("runner", _NAME),
        sa.Column("until", sa.Double, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
