"""What a tracking server has been told of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Nothing has been told yet."""
    op.create_table(
        "tracked_jobs",
        sa.Column(
            "job", sa.String(40), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt", sa.Double, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
    )
