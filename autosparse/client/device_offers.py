"""Offering a device to a service: what `autosparse agent --join` asks of it."""

from __future__ import annotations

from autosparse.client.device_records import DeviceInfo, DeviceOffer
from autosparse.client.http import Transport


class DeviceOffers:
    """The devices that a key offers.

    Args:
        transport: the service.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def make(self, offer: DeviceOffer) -> DeviceInfo:
        """Offer a device, or offer it anew: the service connects to its agent before it answers.

        Raises:
            ForbiddenError: the key, or the address, may not.
            ConflictError: another device has the name.
            ConfigError: no agent answers there.
            ServiceError: the service cannot be reached.
        """
        answer = self._transport.json("POST", "/v1/devices", json=offer.model_dump())
        return DeviceInfo.model_validate(answer)

    def renew(self, offer: DeviceOffer) -> None:
        """Say that the device is still there.

        Raises:
            NotFoundError: the service does not know it any more.
            ConflictError: another agent has the name by now.
            ServiceError: the service cannot be reached.
        """
        path = f"/v1/devices/{offer.name}:renew"
        self._transport.json("POST", path, json={"key": offer.key})

    def withdraw(self, offer: DeviceOffer) -> None:
        """Say that the device is gone.

        Raises:
            ServiceError: the service cannot be reached.
        """
        self._transport.json("DELETE", f"/v1/devices/{offer.name}")
