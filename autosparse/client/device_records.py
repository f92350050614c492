"""What the service, its clients and agents say to each other of devices. As `records.py`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from autosparse.client.records import Record

RENEW_SECONDS = 10.0
"""How often an agent that joined says that it is there."""
PRESENCE_SECONDS = 35.0
"""How long a device is there since its agent last said so: two times may get lost."""
DEVICE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""What the name of a device that joins looks like: it stands in a target's address."""
_KEY = r"^[0-9a-f]{32,128}$"
_EXAMPLE: dict[str, Any] = {
    "name": "board-a",
    "busy": False,
    "joined": True,
    "shared": False,
    "cpu": "Cortex-A76",
    "machine": "aarch64",
    "cores": 4,
    "instruction_sets": ["asimd", "asimddp"],
    "libraries": {"onnxruntime": "1.31.1"},
    "environment": "9f2c4b7aa01d",
}


class DeviceInfo(Record):
    """A device that jobs run on, one at a time."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [_EXAMPLE, {"name": "edge-1", "busy": True}]}
    )

    name: str
    """As its runner was named, `autosparse serve --device`, or its agent, `autosparse agent`."""
    busy: bool
    """Whether a job runs there just now, whosever it is."""
    joined: bool = False
    """Whether an agent offers it; jobs go there that name it, and no others."""
    shared: bool = True
    """Whether jobs of every key may name it; else only those of the key that offers it."""
    cpu: str | None = None
    """Model name of its processor, as its agent tells."""
    machine: str | None = None
    """Its architecture."""
    cores: int | None = None
    """Cores that it has."""
    instruction_sets: tuple[str, ...] = ()
    """Vector extensions that it has."""
    libraries: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries there: what runs files is among them."""
    environment: str | None = None
    """Names device and libraries: latencies are compared where it is the same."""


class DeviceOffer(BaseModel):
    """A device that is offered, and where its agent listens."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [{"name": "board-a", "address": "10.1.0.7:9190", "key": "5e" * 32}]
        },
    )  # fmt: skip

    name: Annotated[str, Field(pattern=DEVICE_NAME)]
    """What jobs call it."""
    address: Annotated[str, Field(max_length=100)]
    """`IP:PORT` of the agent: on the machine that asks, unless the key has the scope `admin`."""
    key: Annotated[str, Field(pattern=_KEY)]
    """What both prove to each other that they hold: random hexadecimal digits."""
    shared: bool = False
    """Whether jobs of every key may name it. Needs the scope `admin`: models are sent there."""


class DeviceRenewal(BaseModel):
    """That a device is still there."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"key": "5e" * 32}]},
    )  # fmt: skip

    key: Annotated[str, Field(max_length=128)] = ""
    """What it was offered with."""
