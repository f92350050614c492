"""`Client.keys`: who may use a service. Only a key with the scope `admin` manages keys."""

from __future__ import annotations

from collections.abc import Sequence

from autosparse.client.http import Transport
from autosparse.client.key_records import KeyInfo, NewKey, Scope
from autosparse.client.records import Page
from autosparse.errors import ConfigError


class Keys:
    """The keys of a service.

    Args:
        transport: the service.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def make(self, name: str, scopes: Sequence[Scope] = ("read", "submit")) -> NewKey:
        """Make a key; the answer holds it once.

        Args:
            name: for people.
            scopes: what it may do: `read`, `submit`, `admin`.
        """
        document = {"name": name, "scopes": list(scopes)}
        return NewKey.model_validate(self._transport.json("POST", "/v1/keys", json=document))

    def list(self) -> tuple[KeyInfo, ...]:
        """Every key of the service, newest first, without its secret."""
        answer = self._transport.json("GET", "/v1/keys")
        return Page[KeyInfo].model_validate(answer).items

    def revoke(self, id_: str) -> KeyInfo:
        """Make a key void at once, and cancel its unfinished jobs; what it owns stays.

        Raises:
            NotFoundError: there is no such key.
            ConflictError: it is the last one that can make others.
        """
        return KeyInfo.model_validate(self._transport.json("DELETE", _path(id_)))

    def rotate(self, id_: str) -> NewKey:
        """Give the key that this client uses another secret; the former one is void at once.

        Make a client with the new one then.

        Raises:
            NotFoundError: it is another key's id.
        """
        return NewKey.model_validate(self._transport.json("POST", f"{_path(id_)}:rotate"))


def _path(id_: str) -> str:
    if not id_.startswith("key_") or not id_.replace("_", "").isalnum():
        raise ConfigError(f"{id_!r} is no key's id", hint="`Client.keys.list` tells them")
    return f"/v1/keys/{id_}"
