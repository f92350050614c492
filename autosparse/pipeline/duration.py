"""Durations as people write them: 90s, 30m, 2h."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from autosparse.errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)")
_SECONDS = {"s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


def read_duration(value: Any) -> Any:
    """Seconds from 90s, 30m or 2h; what is no text stays as it is.

    Raises:
        ConfigError: a text that is no duration.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ConfigError(f"{value!r} is no duration", hint="write 90s, 30m or 2h")
    return float(match[1]) * _SECONDS[match[2]]


def duration_words(seconds: float) -> str:
    """The spelling in the largest unit of which it is a whole number; else in seconds."""
    whole = (unit for unit in ("h", "m") if seconds % _SECONDS[unit] == 0)
    unit = next(whole, "s")
    return f"{seconds / _SECONDS[unit]:g}{unit}"


Duration = Annotated[float, BeforeValidator(read_duration), Field(gt=0)]
"""Seconds above 0, read from their spelling."""
