"""Webhooks as clients see and change them: who is told what."""

from __future__ import annotations

import base64
import secrets
import time

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.announcements import new_delivery
from api.database import new_id
from api.keys import Caller
from api.outbound import check_url
from api.ownership import owned_row
from api.service import Service
from api.tables import DeliveryRow, WebhookRow
from autosparse.client.webhook_records import (
    DeliveryInfo,
    NewWebhook,
    WebhookInfo,
    WebhookKind,
)
from autosparse.errors import QuotaError

_MOST_WEBHOOKS = 20
_SECRET_PREFIX = "whsec_"  # as Standard Webhooks spells it


class WebhookRequest(BaseModel):
    """Where to, and of what."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {"url": "https://hooks.example.com/autosparse", "kinds": ["regression"]}
            ]
        },
    )  # fmt: skip

    url: str
    """http or https; an address that is not public is refused."""
    kinds: tuple[WebhookKind, ...] = ()
    """What to tell; empty for everything."""


def make_webhook(service: Service, caller: Caller, asked: WebhookRequest) -> NewWebhook:
    """Keep a webhook; its secret is in the answer, and told no more.

    Raises:
        ConfigError: no URL that can be sent to.
        ForbiddenError: an address that is not public.
        QuotaError: the key has too many.
    """
    check_url(asked.url, service.settings.webhook_networks)
    secret = _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    row = WebhookRow(
        id=new_id("whk"), owner=caller.id, url=asked.url, kinds=sorted(set(asked.kinds)),
        secret=secret, created=time.time(),
    )  # fmt: skip
    with service.database.writing() as session:
        mine = select(func.count()).select_from(WebhookRow).where(WebhookRow.owner == caller.id)
        if (session.scalar(mine) or 0) >= _MOST_WEBHOOKS:
            raise QuotaError(f"the key has {_MOST_WEBHOOKS} webhooks", hint="delete some")
        session.add(row)
    return NewWebhook(**describe_webhook(row).model_dump(), secret=secret)


def send_test(service: Service, caller: Caller, id_: str) -> DeliveryInfo:
    """Send something now that means nothing.

    Raises:
        NotFoundError: there is no such webhook of the caller's.
    """
    with service.database.writing() as session:
        delivery = new_delivery(find_webhook(session, caller, id_), "test", {})
        session.add(delivery)
        return describe_delivery(delivery)


def delete_webhook(service: Service, caller: Caller, id_: str) -> None:
    """Tell nothing more, and forget what was told.

    Raises:
        NotFoundError: there is no such webhook of the caller's.
    """
    with service.database.writing() as session:
        session.delete(find_webhook(session, caller, id_))


def find_webhook(session: Session, caller: Caller, id_: str) -> WebhookRow:
    """A webhook of the caller's.

    Raises:
        NotFoundError: there is none, or it is another's: the answer does not tell which.
    """
    return owned_row(session, WebhookRow, caller, id_, "webhook")


def describe_webhook(row: WebhookRow) -> WebhookInfo:
    """A webhook without its secret."""
    return WebhookInfo.model_validate(
        {"id": row.id, "url": row.url, "kinds": row.kinds, "created": row.created}
    )


def describe_delivery(row: DeliveryRow) -> DeliveryInfo:
    """A delivery as it is told."""
    return DeliveryInfo.model_validate(
        {
            "id": row.id, "kind": row.kind, "data": row.data, "created": row.created,
            "state": row.state, "attempts": row.attempts, "next_attempt": row.next_attempt,
            "status": row.status, "problem": row.problem,
        }
    )  # fmt: skip
