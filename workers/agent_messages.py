"""What a driver and an agent say to each other, around the messages of `workers.messages`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from autosparse.evaluation import Environment
from workers.messages import MeasureRequest, ProfileRequest, Reply

CHUNK_BYTES = 1 << 20
"""Of a file, in one frame."""
DOCUMENT_BYTES = 16 << 20
"""Of a document of a driver."""
REPLY_BYTES = 256 << 20
"""Of an agent's answer, which holds every raw sample."""
WAIT_SECONDS = 60.0
"""For the next frame, of whoever is to send it."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Welcome(_Message):
    """The agent's first words."""

    environment: Environment
    """The device, with its libraries."""


class FileOffered(_Message):
    """A file of the parcel."""

    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of its content."""


class Ask(_Message):
    """A request, and the files that it names."""

    request: Annotated[MeasureRequest | ProfileRequest, Field(discriminator="kind")]
    """What to time; its paths are those of the parcel."""
    limit_seconds: Annotated[float, Field(gt=0)]
    """Beyond this, the measurement hangs."""
    fresh: bool
    """Whether in a process that has run nothing before."""
    files: dict[str, FileOffered]
    """Path within the parcel -> the file."""


class Wanted(_Message):
    """Which of the files the agent lacks: the driver sends them in this order."""

    digests: tuple[str, ...]


class Refused(_Message):
    """Why a request is not answered."""

    kind: Literal["busy", "request", "large", "room"]
    """Another measurement is under way; it is wrong; it is too large; the disk is full."""
    message: str
    """What to tell."""


class Turn(_Message):
    """What an agent says when it is its turn: exactly one of these."""

    wanted: Wanted | None = None
    reply: Reply | None = None
    refused: Refused | None = None
