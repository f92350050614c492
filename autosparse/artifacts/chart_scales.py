"""Scales, ticks and frames of the report's charts. Values in, pixels out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from autosparse.artifacts.report_words import MINUS

Kind = Literal["linear", "log", "symlog"]
_DECADES = 12


@dataclass(frozen=True)
class Frame:
    """Size of a drawing and the margins around its plot area, in pixels."""

    width: int
    height: int
    left: int = 52
    right: int = 20
    top: int = 30
    bottom: int = 46

    @property
    def x_range(self) -> tuple[float, float]:
        """Left and right end of the plot area."""
        return float(self.left), float(self.width - self.right)

    @property
    def y_range(self) -> tuple[float, float]:
        """Bottom and top of the plot area: pixels grow downwards."""
        return float(self.height - self.bottom), float(self.top)


@dataclass(frozen=True)
class Tick:
    """A place on an axis with its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """Map values of [low, high] to pixels; values beyond are drawn at the edge."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`."""
    kind: Kind = "linear"
    linear_up_to: float = 1.0
    """Where a symlog scale turns from linear to logarithmic, on both sides of zero."""

    def __call__(self, value: float) -> float:
        """Pixel of a value, to a tenth."""
        inside = min(max(value, self.low), self.high)
        low, high = self._bend(self.low), self._bend(self.high)
        part = (self._bend(inside) - low) / (high - low)
        return round(self.start + part * (self.end - self.start), 1)

    def shows(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self, apart: float, label: Callable[[float], str] | None = None) -> tuple[Tick, ...]:
        """Round values at least `apart` pixels from each other, the roundest first."""
        name = label or plain_number
        kept: list[tuple[float, float]] = []
        for value in self._round_values(apart):
            at = self(value)
            if self.shows(value) and all(abs(at - other) >= apart for other, _ in kept):
                kept.append((at, value))
        return tuple(Tick(at, name(value)) for at, value in sorted(kept))

    def _bend(self, value: float) -> float:
        if self.kind == "linear":
            return value
        if self.kind == "log":
            return math.log10(value)
        bent = abs(value) / self.linear_up_to
        if bent > 1.0:
            bent = 1.0 + math.log10(bent)
        return math.copysign(bent, value)

    def _round_values(self, apart: float) -> Iterable[float]:
        if self.kind == "linear":
            return _steps(self.low, self.high, abs(self.end - self.start) / apart)
        if self.kind == "log":
            decade = math.floor(math.log10(self.low))
            return [f * 10.0**d for f in (1, 2, 5) for d in range(decade, decade + _DECADES)]
        decade = math.floor(math.log10(self.linear_up_to))
        logarithmic = [f * 10.0**d for f in (1, 2, 5) for d in range(decade, decade + _DECADES)]
        beyond = [v for v in logarithmic if v > self.linear_up_to]
        inside = _steps(-self.linear_up_to, self.linear_up_to, 4)
        sides = [self.linear_up_to, -self.linear_up_to, *beyond, *(-v for v in beyond), *inside]
        return [0.0, *sides]


def plain_number(value: float) -> str:
    """A tick's label: 0.5, 20, with a typographic minus."""
    return f"{value:.6g}".replace("-", MINUS)


def percent_number(value: float) -> str:
    """A share as a tick's label: 60 %."""
    return f"{value * 100:.6g} %"


def _steps(low: float, high: float, most: float) -> list[float]:
    """Multiples of 1, 2 or 5 x 10^k in [low, high], at most `most` + 1 of them."""
    wanted = (high - low) / max(most, 1.0)
    decade = 10.0 ** math.floor(math.log10(wanted))
    step = next(f * decade for f in (1, 2, 5, 10) if f * decade >= wanted * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]
