"""What `autosparse agent` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JoinSettings:
    """Which service a device is offered to, and what it is called there."""

    url: str
    bearer: str | None
    """The key that the service is asked with; None where it asks for none."""
    name: str
    shared: bool
    """Whether jobs of every key may go there, or those of this one."""
    advertise: str
    """`HOST:PORT` that the service is to connect to; empty for where the agent listens."""


@dataclass(frozen=True)
class AgentSettings:
    """Where an agent listens, for whom, and within which limits."""

    listen: str
    key_file: Path | None
    scratch: Path
    scratch_bytes: int
    longest_seconds: float
    join: JoinSettings | None = None
    """The service that the device is offered to; None for whoever holds the key."""
