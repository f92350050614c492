"""Devices that offer themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """So far, jobs ran where a runner was."""
    op.create_table(
        "devices",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("owner", sa.String(40), sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("address", sa.String(200), nullable=False),
        sa.Column("secret", sa.String(200), nullable=False),
        sa.Column("environment", sa.JSON, nullable=False),
        sa.Column("joined", sa.Double, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
    )
    op.create_index("ix_devices_owner", "devices", ["owner"])
