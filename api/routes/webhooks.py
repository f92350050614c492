"""`/v1/webhooks`: make, list, test, look at deliveries, delete."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import select

from api import webhooks
from api.paging import After, Limit, page_of
from api.service import Id, Reader, Submitter, TheService
from api.tables import DeliveryRow, WebhookRow
from api.webhooks import WebhookRequest
from autosparse.client.records import Page
from autosparse.client.webhook_records import DeliveryInfo, NewWebhook, WebhookInfo

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


@router.post("", status_code=201)
def make_webhook(
    asked: WebhookRequest, response: Response, service: TheService, caller: Submitter
) -> NewWebhook:
    """Have a URL told what happens to your jobs. The answer holds the secret once."""
    made = webhooks.make_webhook(service, caller, asked)
    response.headers["Location"] = f"/v1/webhooks/{made.id}"
    return made


@router.get("")
def list_webhooks(service: TheService, caller: Reader) -> Page[WebhookInfo]:
    """Your webhooks, newest first, without their secrets."""
    with service.database.reading() as session:
        mine = select(WebhookRow).where(WebhookRow.owner == caller.id)
        rows = session.scalars(mine.order_by(WebhookRow.created.desc()))
        return Page(items=tuple(map(webhooks.describe_webhook, rows)))


# before /{webhook_id}: a path with a verb is no id
@router.post("/{webhook_id}:test", status_code=202)
def send_test(webhook_id: Id, service: TheService, caller: Submitter) -> DeliveryInfo:
    """Send something now that means nothing."""
    return webhooks.send_test(service, caller, webhook_id)


@router.get("/{webhook_id}")
def get_webhook(webhook_id: Id, service: TheService, caller: Reader) -> WebhookInfo:
    """One webhook, without its secret."""
    with service.database.reading() as session:
        return webhooks.describe_webhook(webhooks.find_webhook(session, caller, webhook_id))


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: Id, service: TheService, caller: Submitter) -> None:
    """Tell nothing more, and forget what was told."""
    webhooks.delete_webhook(service, caller, webhook_id)


@router.get("/{webhook_id}/deliveries")
def list_deliveries(
    webhook_id: Id,
    service: TheService,
    caller: Reader,
    limit: Limit = 50,
    after: After = None,
) -> Page[DeliveryInfo]:
    """What it was told, or is to be, newest first."""
    with service.database.reading() as session:
        webhook = webhooks.find_webhook(session, caller, webhook_id)
        mine = DeliveryRow.webhook == webhook.id
        rows, following = page_of(session, DeliveryRow, mine, limit, after)
    return Page(items=tuple(map(webhooks.describe_delivery, rows)), next=following)
