"""What the service and its clients say to each other of keys. As `records.py`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from autosparse.client.records import Record

Scope = Literal["read", "submit", "admin"]

_EXAMPLE: dict[str, Any] = {
    "id": "key_6Nd4Gq9yPb1WkUv8MzTs3e",
    "name": "continuous integration",
    "scopes": ["read", "submit"],
    "created": 1795323755.2,
}


class KeyInfo(Record):
    """A bearer key, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    """Begins with `key_`."""
    name: str
    """For people."""
    scopes: tuple[Scope, ...]
    """What it may do: `read` and `submit` with its own things, `admin` with keys and metrics."""
    created: float
    """When it was made."""
    revoked: float | None = None
    """Since when it is void."""


class NewKey(KeyInfo):
    """A key as it is told once, when it is made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_EXAMPLE, "key": f"{_EXAMPLE['id']}.{'s3cr' * 10}"}]}
    )

    key: str
    """What goes behind `Authorization: Bearer`. Only its digest is stored."""
