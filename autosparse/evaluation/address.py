"""Where a target is that is not this machine.

`rpc://HOST:PORT` is an agent that measures there; `sim://NAME` a device that is only simulated.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from autosparse.errors import ConfigError

AGENT_SCHEME = "rpc://"
SIMULATION_SCHEME = "sim://"
_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})")
_LARGEST_PORT = 65535
_DEVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")


@dataclass(frozen=True)
class AgentAddress:
    """A host and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> AgentAddress:
        """Read `HOST:PORT`, with or without `rpc://` before it.

        Raises:
            ConfigError: not of that form, or a key is in it.
        """
        place, slash, rest = text.removeprefix(AGENT_SCHEME).partition("/")
        if slash and rest and _PLACE.fullmatch(place):
            # what stands on a command line is seen by every user of the machine
            raise ConfigError(
                f"the address {AGENT_SCHEME}{place}/... must not hold a key",
                hint="put the key into a file of your own and name it as key_file in the target "
                "file, or set AUTOSPARSE_AGENT_KEY",
            )
        match = _PLACE.fullmatch(place)
        if match is None or not 0 <= int(match[3]) <= _LARGEST_PORT:
            raise ConfigError(
                f"{text!r} is no address of an agent",
                hint=f"write {AGENT_SCHEME}HOST:PORT, for example {AGENT_SCHEME}127.0.0.1:9190",
            )
        return cls(match[1] or match[2], int(match[3]))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        """`HOST:PORT`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def checked_address(text: str) -> str:
    """The address in its usual form.

    Raises:
        ConfigError: it is none.
    """
    if not text.startswith(SIMULATION_SCHEME):
        return f"{AGENT_SCHEME}{AgentAddress.parse(text)}"
    if not _DEVICE.fullmatch(text.removeprefix(SIMULATION_SCHEME)):
        raise ConfigError(
            f"{text!r} names no device to simulate", hint="write sim://NAME, for example sim://s4"
        )
    return text


def is_address(text: str) -> bool:
    """Whether a target is told by its address rather than by a file."""
    return "://" in text
