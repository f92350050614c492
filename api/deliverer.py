"""Sends what webhooks are to be told: signed, again after a while, and at last given up.

Signatures are those of Standard Webhooks: HMAC-SHA256 of `id.timestamp.body` with the webhook's
secret, in the header `webhook-signature`. Whoever is told may be told twice, with the same id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select

from api.json_logs import about
from api.outbound import post
from api.service import Service
from api.tables import DeliveryRow, WebhookRow
from autosparse.errors import UserInputError

_log = logging.getLogger("autosparse.webhooks")
RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0, 3600.0, 14400.0, 43200.0)
"""Waits after each attempt but the last."""
_LIMIT_SECONDS = 10.0
_CLAIM_SECONDS = 120.0
_AT_ONCE = 8
_GONE = 410


def signature(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`.

    Args:
        secret: the webhook's: `whsec_`, and the key in base64.
        id_: the delivery's.
        timestamp: seconds since 1970, as in `webhook-timestamp`.
        body: the document, to the byte.
    """
    key = base64.b64decode(secret.partition("_")[2])
    signed = f"{id_}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Deliverer:
    """Sends what is due; any number of these may run.

    Args:
        service: where deliveries are.
        clock: seconds since 1970.
    """

    def __init__(self, service: Service, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._clock = clock

    def tick(self) -> int:
        """Send what is due now, a few at the same time.

        Returns:
            How many were sent, successfully or not.
        """
        claimed = self._claim()
        if claimed:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda one: self._send(*one), claimed))
        return len(claimed)

    def _claim(self) -> list[tuple[DeliveryRow, WebhookRow]]:
        now = self._clock()
        due = (DeliveryRow.state == "waiting") & (DeliveryRow.next_attempt <= now)
        with self._service.database.reading() as session:
            if session.scalar(select(DeliveryRow.id).where(due).limit(1)) is None:
                return []
        with self._service.database.writing() as session:
            chosen = select(DeliveryRow).where(due).order_by(DeliveryRow.next_attempt)
            rows = list(session.scalars(chosen.limit(_AT_ONCE).with_for_update(skip_locked=True)))
            for row in rows:
                # whoever has it now may die: then it is sent again
                row.attempts, row.next_attempt = row.attempts + 1, now + _CLAIM_SECONDS
            return [(row, session.get_one(WebhookRow, row.webhook)) for row in rows]

    def _send(self, delivery: DeliveryRow, webhook: WebhookRow) -> None:
        now = int(self._clock())
        document = {"type": delivery.kind, "timestamp": delivery.created, "data": delivery.data}
        body = json.dumps(document).encode()
        headers = {
            "Content-Type": "application/json", "User-Agent": "autosparse",
            "webhook-id": delivery.id, "webhook-timestamp": str(now),
            "webhook-signature": signature(webhook.secret, delivery.id, now, body),
        }  # fmt: skip
        status, problem = None, ""
        try:
            status = post(
                webhook.url, headers, body, allowed=self._service.settings.webhook_networks,
                limit_seconds=_LIMIT_SECONDS,
            )  # fmt: skip
        except UserInputError as error:
            problem = error.message
        except (OSError, http.client.HTTPException) as error:
            problem = f"it cannot be reached: {type(error).__name__}"
        self._note(delivery, status, problem)

    def _note(self, delivery: DeliveryRow, status: int | None, problem: str) -> None:
        delivered = status is not None and 200 <= status < 300
        told = about(delivery=delivery.id, webhook=delivery.webhook, attempt=delivery.attempts,
                     status=status, problem=problem)  # fmt: skip
        _log.info("delivery", extra=told)
        with self._service.database.writing() as session:
            row = session.get(DeliveryRow, delivery.id, with_for_update=True)
            if row is None or row.attempts != delivery.attempts:
                return  # its webhook was deleted, or somebody else has sent it meanwhile
            row.status = status
            row.problem = "" if delivered else problem or f"it answers with {status}"
            if delivered:
                row.state, row.next_attempt = "delivered", None
            elif status == _GONE or row.attempts > len(RETRY_SECONDS):
                row.state, row.next_attempt = "failed", None
            else:
                row.next_attempt = self._clock() + RETRY_SECONDS[row.attempts - 1]
