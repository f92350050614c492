"""What webhooks are to be told, written down beside what happened.

A delivery is a row in the same transaction as the event itself, so that nothing is told that did
not happen, and nothing that happened is forgotten. `deliverer.py` sends the rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.database import new_id
from api.tables import DeliveryRow, KeyRow, WebhookRow


def announce(session: Session, owner: str, kind: str, data: Mapping[str, Any]) -> None:
    """Have everybody told who wants to know of it, once what the session does is stored.

    A key that was revoked is told nothing more.
    """
    if session.get_one(KeyRow, owner).revoked is not None:
        return
    for webhook in session.scalars(select(WebhookRow).where(WebhookRow.owner == owner)):
        if not webhook.kinds or kind in webhook.kinds:
            session.add(new_delivery(webhook, kind, data))


def new_delivery(webhook: WebhookRow, kind: str, data: Mapping[str, Any]) -> DeliveryRow:
    """Something to be told."""
    now = time.time()
    return DeliveryRow(
        id=new_id("dlv"), webhook=webhook.id, kind=kind, data=dict(data), created=now,
        state="waiting", attempts=0, next_attempt=now, status=None, problem="",
    )  # fmt: skip
