"""What the service and its clients say to each other of webhooks. As `records.py`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from autosparse.client.records import Record

WebhookKind = Literal[
    "job.finished", "job.failed", "job.cancelled", "regression", "schedule.refused"
]


_EXAMPLE: dict[str, Any] = {
    "id": "whk_8Jp5Rv2mTx6CqYw0BsKd4n",
    "url": "https://hooks.example.com/autosparse",
    "kinds": ["regression"],
    "created": 1795323761.0,
}


class WebhookInfo(Record):
    """Somebody who is told what happens."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    """Begins with `whk_`."""
    url: str
    """Where it is told."""
    kinds: tuple[WebhookKind, ...] = ()
    """What; empty for everything."""
    created: float
    """When it was made."""


class NewWebhook(WebhookInfo):
    """A webhook as it is told once, when it is made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_EXAMPLE, "secret": "whsec_" + "c2VjcmV0" * 4}]}
    )

    secret: str
    """What signs its deliveries: `whsec_`, and the key in base64."""


class DeliveryInfo(Record):
    """Something that was told, or is to be."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "dlv_5Mz1Hs7fLc3GtNb9XqVe6u",
                    "kind": "regression",
                    "data": {"job": "job_2Ld9Wp4sXe7ZuCq1RvFy6h", "regressions": ["..."]},
                    "created": 1795399262.7,
                    "state": "delivered",
                    "attempts": 1,
                    "status": 204,
                }
            ]
        }
    )

    id: str
    """Begins with `dlv_`; the same in every attempt."""
    kind: str
    """What happened."""
    data: dict[str, Any]
    """Of what."""
    created: float
    """When it happened."""
    state: Literal["waiting", "delivered", "failed"]
    """failed: it was given up."""
    attempts: int
    """How often it was sent."""
    next_attempt: float | None = None
    """When it is sent, or sent again."""
    status: int | None = None
    """HTTP status of the last answer."""
    problem: str = ""
    """Why it was not delivered."""
