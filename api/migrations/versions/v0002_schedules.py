"""Jobs of several kinds, and schedules with their runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID, _NAME, _KIND = sa.String(40), sa.String(200), sa.String(16)


def upgrade() -> None:
    """Every job so far was a search."""
    op.add_column("jobs", sa.Column("kind", _KIND, nullable=False, server_default="search"))
    op.add_column("jobs", sa.Column("outcome", sa.JSON))
    op.create_table(
        "schedules",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("kind", _KIND, nullable=False),
        sa.Column("cron", _NAME, nullable=False),
        sa.Column("time_zone", _NAME, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("missed", _KIND, nullable=False),
        sa.Column("overlap", _KIND, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("next_due", sa.Double),
    )
    op.create_index("schedules_by_owner", "schedules", ["owner", "created"])
    op.create_index("ix_schedules_next_due", "schedules", ["next_due"])
    op.create_table(
        "schedule_needs",
        sa.Column(
            "schedule", _ID, sa.ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("needed", _ID, primary_key=True),
    )
    op.create_index("ix_schedule_needs_needed", "schedule_needs", ["needed"])
    _runs()


def _runs() -> None:
    schedule = sa.ForeignKey("schedules.id", ondelete="CASCADE")
    op.create_table(
        "schedule_runs",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("schedule", _ID, schedule, nullable=False),
        sa.Column("cause", _KIND, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("missed", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("state", _KIND, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("claimed_until", sa.Double),
        sa.Column("job", _ID),
        sa.Column("ended", sa.Double),
        sa.Column("outcome", sa.JSON),
        sa.UniqueConstraint("schedule", "cause", "due"),
    )
    op.create_index("runs_by_schedule", "schedule_runs", ["schedule", "created"])
    op.create_index("ix_schedule_runs_state", "schedule_runs", ["state"])
    op.create_index("ix_schedule_runs_job", "schedule_runs", ["job"])
