"""Jobs that stay however long ago they ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nobody has asked for that so far."""
    kept = sa.Column("kept", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("jobs", kept)
    op.create_index("jobs_by_end", "jobs", ["finished"])
