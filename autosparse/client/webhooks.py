"""`Client.webhooks`: who is told what happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autosparse.client.http import Transport
from autosparse.client.records import Page
from autosparse.client.webhook_records import DeliveryInfo, NewWebhook, WebhookInfo
from autosparse.errors import ConfigError


class Webhooks:
    """The webhooks of one key.

    Args:
        transport: the service.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def make(self, url: str, kinds: Sequence[str] = ()) -> NewWebhook:
        """Have a URL told what happens; the answer holds the secret that signs, once.

        Args:
            url: http or https.
            kinds: `job.finished`, `job.failed`, `job.cancelled`, `regression`,
                `schedule.refused`; empty for all of them.
        """
        document = {"url": url, "kinds": list(kinds)}
        return NewWebhook.model_validate(
            self._transport.json("POST", "/v1/webhooks", json=document)
        )

    def list(self) -> tuple[WebhookInfo, ...]:
        """Every webhook of this key, newest first."""
        answer = self._transport.json("GET", "/v1/webhooks")
        return Page[WebhookInfo].model_validate(answer).items

    def test(self, id_: str) -> DeliveryInfo:
        """Send something now that means nothing."""
        return DeliveryInfo.model_validate(self._transport.json("POST", f"{_path(id_)}:test"))

    def deliveries(self, id_: str) -> Iterator[DeliveryInfo]:
        """What it was told, or is to be, newest first."""
        for answer in self._transport.pages(f"{_path(id_)}/deliveries"):
            yield from Page[DeliveryInfo].model_validate(answer).items

    def delete(self, id_: str) -> None:
        """Tell nothing more, and forget what was told."""
        self._transport.json("DELETE", _path(id_))


def _path(id_: str) -> str:
    if not id_.startswith("whk_") or not id_.replace("_", "").isalnum():
        raise ConfigError(f"{id_!r} is no webhook's id", hint="`Client.webhooks.list` tells them")
    return f"/v1/webhooks/{id_}"
