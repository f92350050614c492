"""Jobs for a device, jobs that wait to deliver, and jobs whose files are still to be removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """So far, jobs ran wherever a runner was, and nothing waits."""
    op.add_column("jobs", sa.Column("device", sa.String(200), nullable=True))
    op.add_column("jobs", sa.Column("ran_on", sa.String(200), nullable=True))
    op.add_column("jobs", sa.Column("concluded", sa.JSON, nullable=True))
    op.add_column("jobs", sa.Column("not_before", sa.Double, nullable=True))
    op.create_table(
        "forgotten_jobs",
        sa.Column("job", sa.String(40), primary_key=True),
        sa.Column("since", sa.Double, nullable=False),
    )
