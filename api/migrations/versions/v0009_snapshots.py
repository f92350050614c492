"""Snapshots of jobs' files, for servers that share no disk."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """So far, homes are shared, and no job has a snapshot."""
    op.add_column("jobs", sa.Column("snapshot", sa.String(120), nullable=True))
