"""The bounds of the contract: the latency budget, the quality that may be lost, and bytes."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from autosparse.errors import ConfigError

Percentile = Literal["p50", "p95"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_BYTES = {"GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_BUDGET = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(%|ns|us|µs|ms|s)\s*")
_DROP = re.compile(r"\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*(pt|%)?\s*")
_MAX_BYTES = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(%|B|[kMG]i?B)\s*", re.IGNORECASE)


class _Bound(BaseModel):
    """A number and its unit, read from their spelling and serialised as it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    amount: float
    """The number as written."""
    unit: str
    """What it counts."""

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> Self:
        """Read a spelling.

        Raises:
            ConfigError: it is none.
        """

    @model_validator(mode="before")
    @classmethod
    def _from_spelling(cls, data: Any) -> Any:
        if isinstance(data, str | int | float):
            read = cls.parse(str(data))
            return {"amount": read.amount, "unit": read.unit}
        return data

    @model_serializer
    def _to_spelling(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{_spelled(self.amount)}{self.unit}"


class Budget(_Bound):
    """A latency bound: `8ms`, or `60%` of the baseline. Serialised as its spelling."""

    amount: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """The number as written."""
    unit: Literal["%", "ns", "us", "µs", "ms", "s"]
    """`%` of the baseline's latency, or a unit of time."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a spelling.

        Raises:
            ConfigError: not a bound, or one that nothing can meet.
        """
        match = _BUDGET.fullmatch(str(text))
        if match is None:
            raise ConfigError(
                f"{text!r} is no latency budget",
                hint="write a time (8ms, 250us) or a share of the baseline (60%)",
            )
        if not 0 < float(match[1]) < float("inf"):
            raise ConfigError(
                f"a latency budget of {text!r} cannot be met", hint="give one above zero"
            )
        return cls.model_validate({"amount": float(match[1]), "unit": match[2]})

    @property
    def is_relative(self) -> bool:
        """Whether the bound is a share of the baseline."""
        return self.unit == "%"

    def seconds(self, baseline_seconds: float) -> float:
        """The bound in seconds, given the baseline's latency in seconds."""
        if self.unit == "%":
            return self.amount / 100 * baseline_seconds
        return self.amount * _UNITS[self.unit]


class MaxDrop(_Bound):
    """The allowed loss of quality: `0.5pt`, `1%` or a bare number. Serialised as its spelling.

    `pt` are percentage points of a metric in [0, 1]; `%` is relative to the baseline's value;
    a bare number is in the metric's own unit.
    """

    amount: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The number as written."""
    unit: Literal["pt", "%", ""]
    """Percentage points, relative, or the metric's own unit."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a spelling.

        Raises:
            ConfigError: not a drop, or a negative one.
        """
        match = _DROP.fullmatch(str(text))
        if match is None or not 0 <= float(match[1]) < float("inf"):
            raise ConfigError(
                f"{text!r} is no allowed drop",
                hint="write percentage points (0.5pt), a relative loss (1%) or a number (0.01)",
            )
        return cls.model_validate({"amount": float(match[1]), "unit": match[2] or ""})

    def allowance(self, baseline_value: float) -> float:
        """The largest allowed drop in the metric's own unit, given the baseline's value."""
        if self.unit == "pt":
            return self.amount / 100
        if self.unit == "%":
            return self.amount / 100 * abs(baseline_value)
        return self.amount


class MaxBytes(_Bound):
    """A bound on a size or on memory: `20MB`, or `40%` of the baseline's. Serialised so.

    kB, MB and GB are powers of 1000, KiB, MiB and GiB of 1024.
    """

    amount: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """The number as written."""
    unit: Literal["%", "B", "kB", "MB", "GB", "KiB", "MiB", "GiB"]
    """`%` of the baseline's bytes, or a unit of them."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a spelling, in capitals or not.

        Raises:
            ConfigError: no number of bytes, or one that nothing can meet.
        """
        match = _MAX_BYTES.fullmatch(str(text))
        if match is None:
            raise ConfigError(
                f"{text!r} is no number of bytes",
                hint="write bytes (20MB, 512KiB) or a share of the model's as it came (40%)",
            )
        if not 0 < float(match[1]) < float("inf"):
            raise ConfigError(f"a bound of {text!r} cannot be met", hint="give one above zero")
        units = {unit.lower(): unit for unit in ("%", *_BYTES)}
        return cls.model_validate({"amount": float(match[1]), "unit": units[match[2].lower()]})

    def bytes(self, baseline_bytes: int | None) -> float:
        """The bound in bytes, given the baseline's.

        Raises:
            ConfigError: it is a share of the baseline's, and that is not known.
        """
        if self.unit != "%":
            return self.amount * _BYTES[self.unit]
        if baseline_bytes is None:
            raise ConfigError(
                f"{self} is a share of what is not known of the model as it came",
                hint="give a number of bytes, for example 20MB",
            )
        return self.amount / 100 * baseline_bytes


def byte_words(count: float, gap: str = "") -> str:
    """23.4MB: bytes in three digits and the unit that fits, powers of 1000."""
    unit, size = _fitting_unit(count)
    value = count / size
    digits = 0 if size == 1 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}{gap}{unit}"


def enough_bytes(count: float) -> str:
    """The spelling of a bound that a file of so many bytes keeps, and hardly more."""
    unit, size = _fitting_unit(count)
    return f"{math.ceil(10 * count / size) / 10:g}{unit}"


def _fitting_unit(count: float) -> tuple[str, float]:
    return next(
        ((unit, _BYTES[unit]) for unit in ("GB", "MB", "kB") if count >= _BYTES[unit]), ("B", 1.0)
    )


def _spelled(amount: float) -> str:
    """The fewest digits that give the same number again."""
    return np.format_float_positional(amount, trim="-")
