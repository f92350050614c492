"""Webhooks, and what they are told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.String(40)


def upgrade() -> None:
    """Nobody is told anything so far."""
    op.create_table(
        "webhooks",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("kinds", sa.JSON, nullable=False),
        sa.Column("secret", sa.String(200), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_index("ix_webhooks_owner", "webhooks", ["owner"])
    webhook = sa.ForeignKey("webhooks.id", ondelete="CASCADE")
    op.create_table(
        "deliveries",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("webhook", _ID, webhook, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt", sa.Double),
        sa.Column("status", sa.Integer),
        sa.Column("problem", sa.Text, nullable=False),
    )
    op.create_index("deliveries_by_webhook", "deliveries", ["webhook", "created"])
    op.create_index("ix_deliveries_next_attempt", "deliveries", ["next_attempt"])
