"""An agent that offers its device to a service, and says every few seconds that it is there."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from autosparse.client.device_offers import DeviceOffers
from autosparse.client.device_records import RENEW_SECONDS, DeviceOffer
from autosparse.client.http import Transport
from autosparse.errors import ConfigError, NotFoundError, ServiceError, UserInputError
from autosparse.evaluation.address import AgentAddress
from workers.agent_settings import JoinSettings

_PORTS = {"http": 80, "https": 443}
_EVERYWHERE = ("0.0.0.0", "::")
_TRIES = 3
_TIMEOUT_SECONDS = 60.0
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Joining:
    """Keeps a device with a service.

    Args:
        offers: the service.
        offer: the device.
        url: where the service is, for people.
        tell: told in a line what happens.
        sleep: waits between two times.
    """

    offers: DeviceOffers
    offer: DeviceOffer
    url: str
    tell: Tell
    sleep: Callable[[float], None] = time.sleep

    def keep(self) -> None:
        """Offer the device, and say that it is there until an exception comes from outside.

        A service that is away is waited for: what runs there goes on when it is back.

        Raises:
            UserInputError: the service does not take the device, or not any more.
            ServiceError: it cannot be reached at the start.
        """
        self._join()
        try:
            is_away = False
            while True:
                self.sleep(RENEW_SECONDS)
                try:
                    self._renew()
                except ServiceError as error:
                    if not is_away:
                        self.tell(f"{error.message}; trying again until it can")
                    is_away = True
                else:
                    is_away = False
        finally:
            # a device that says nothing is forgotten there all the same
            with contextlib.suppress(ServiceError, UserInputError):
                self.offers.withdraw(self.offer)

    def _join(self) -> None:
        told = self.offers.make(self.offer)
        whose = "everybody's jobs" if told.shared else "the jobs of its key"
        self.tell(f"Joined {self.url} as {told.name}, for {whose}")

    def _renew(self) -> None:
        try:
            self.offers.renew(self.offer)
        except NotFoundError:  # it was away for longer than the service remembers
            self._join()


@contextmanager
def joining(
    settings: JoinSettings,
    key: bytes,
    listens: AgentAddress,
    tell: Tell,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Joining]:
    """What keeps an agent with a service.

    Args:
        settings: which one.
        key: the agent's.
        listens: where the agent does.
        tell: told in a line what happens.
        sleep: waits between two times that it says so; what it raises ends the joining.

    Raises:
        ConfigError: the service's address, or the device's name, is none.
    """
    offer = _offer(settings, key, listens)
    transport = Transport(
        settings.url, settings.bearer, tries=_TRIES, timeout_seconds=_TIMEOUT_SECONDS
    )
    try:
        yield Joining(DeviceOffers(transport), offer, settings.url, tell, sleep)
    finally:
        transport.close()


def _offer(settings: JoinSettings, key: bytes, listens: AgentAddress) -> DeviceOffer:
    address = AgentAddress.parse(settings.advertise) if settings.advertise else listens
    if address.host in _EVERYWHERE:
        address = AgentAddress(_own_address(settings.url), address.port)
    try:
        return DeviceOffer(
            name=settings.name, address=str(address), key=key.decode(), shared=settings.shared
        )
    except ValueError as error:
        raise ConfigError(
            f"{settings.name!r} is no name of a device",
            hint="give --name with up to 63 letters, digits, dots, dashes and underscores",
        ) from error


def _own_address(url: str) -> str:
    """The address that this machine has towards a service; nothing is sent."""
    try:
        parts = urlsplit(url)
        place = (parts.hostname or "", parts.port or _PORTS[parts.scheme])
        family, kind, *_, found = socket.getaddrinfo(*place, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as way:
            way.connect(found)
            return str(way.getsockname()[0])
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"there is no way to {url}", hint="give --join http://HOST:PORT of the service"
        ) from error
