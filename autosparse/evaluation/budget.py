"""The two halves of the contract: the latency budget, and the quality that may be lost."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from autosparse.errors import ConfigError

Percentile = Literal["p50", "p95"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_BUDGET = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(%|ns|us|µs|ms|s)\s*")
_DROP = re.compile(r"\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*(pt|%)?\s*")


class Budget(BaseModel):
    """A latency bound: `8ms`, or `60%` of the baseline. Serialised as its spelling."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    amount: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """The number as written."""
    unit: Literal["%", "ns", "us", "µs", "ms", "s"]
    """`%` of the baseline's latency, or a unit of time."""

    @classmethod
    def parse(cls, text: str) -> Budget:
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

    @model_validator(mode="before")
    @classmethod
    def _from_spelling(cls, data: Any) -> Any:
        if isinstance(data, str | int | float):
            budget = cls.parse(str(data))
            return {"amount": budget.amount, "unit": budget.unit}
        return data

    @model_serializer
    def _to_spelling(self) -> str:
        return str(self)

    @property
    def is_relative(self) -> bool:
        """Whether the bound is a share of the baseline."""
        return self.unit == "%"

    def seconds(self, baseline_seconds: float) -> float:
        """The bound in seconds, given the baseline's latency in seconds."""
        if self.unit == "%":
            return self.amount / 100 * baseline_seconds
        return self.amount * _UNITS[self.unit]

    def __str__(self) -> str:
        return f"{_spelled(self.amount)}{self.unit}"


class MaxDrop(BaseModel):
    """The allowed loss of quality: `0.5pt`, `1%` or a bare number. Serialised as its spelling.

    `pt` are percentage points of a metric in [0, 1]; `%` is relative to the baseline's value;
    a bare number is in the metric's own unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    amount: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The number as written."""
    unit: Literal["pt", "%", ""]
    """Percentage points, relative, or the metric's own unit."""

    @classmethod
    def parse(cls, text: str) -> MaxDrop:
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

    @model_validator(mode="before")
    @classmethod
    def _from_spelling(cls, data: Any) -> Any:
        if isinstance(data, str | int | float):
            drop = cls.parse(str(data))
            return {"amount": drop.amount, "unit": drop.unit}
        return data

    @model_serializer
    def _to_spelling(self) -> str:
        return str(self)

    def allowance(self, baseline_value: float) -> float:
        """The largest allowed drop in the metric's own unit, given the baseline's value."""
        if self.unit == "pt":
            return self.amount / 100
        if self.unit == "%":
            return self.amount / 100 * abs(baseline_value)
        return self.amount

    def __str__(self) -> str:
        return f"{_spelled(self.amount)}{self.unit}"


def _spelled(amount: float) -> str:
    """The fewest digits that give the same number again."""
    return np.format_float_positional(amount, trim="-")
