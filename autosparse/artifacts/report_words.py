"""Words and numbers of the report: one spelling per quantity, its unit always beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autosparse.errors import ConfigError
from autosparse.evaluation import Contract, Interval, MaxBytes, MaxDrop
from autosparse.evaluation.budget import byte_words
from autosparse.evaluation.metrics import BUILT_IN
from autosparse.levels import NM, Level

GAP = "\N{NO-BREAK SPACE}"
"""Between a number and its unit: the two stay on one line."""
MINUS = "\N{MINUS SIGN}"
UNKNOWN = "\N{EN DASH}"
"""Stands where nothing was measured."""

_LONGEST_NAME = 120
_METRIC_NAMES = {
    "top1": "accuracy",
    "top5": "top-5 accuracy",
    "cross_entropy": "cross-entropy",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "spearman": "rank correlation",
    "kl": "KL divergence",
    "relative_error": "relative output error",
}


def milliseconds(seconds: float | None) -> str:
    """0.204 ms: three significant digits, whole numbers from 100 ms on."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    return f"{significant(seconds * 1e3)}{GAP}ms"


def milliseconds_range(interval: Interval) -> str:
    """0.202 to 0.206 ms."""
    low = milliseconds(interval.low).removesuffix(f"{GAP}ms")
    return f"{low} to {milliseconds(interval.high)}"


def share(fraction: float | None, digits: int = 1) -> str:
    """48.8 %."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    return f"{_signed(f'{fraction * 100:.{digits}f}')}{GAP}%"


def share_range(interval: Interval, digits: int = 1) -> str:
    """48.1 to 49.5 %."""
    low = share(interval.low, digits).removesuffix(f"{GAP}%")
    return f"{low} to {share(interval.high, digits)}"


def duration(seconds: float) -> str:
    """45 s, 12 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f}{GAP}s"
    if seconds < 5400:
        return f"{seconds / 60:.0f}{GAP}min"
    return f"{seconds / 3600:.1f}{GAP}h"


def significant(value: float) -> str:
    """Three significant digits, without an exponent where it reads well without."""
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return _signed(f"{value:.2e}")
    decimals = 4 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return _signed(f"{value:.{min(decimals, 6)}f}" if value else "0")


def count(value: int) -> str:
    """1,048,576."""
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """1 layer, 2 layers."""
    return f"{count(value)}{GAP}{noun}" + ("" if value == 1 else "s")


def short(name: str) -> str:
    """A name from a model file, its middle left out where it is too long to read."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[:half]} \N{HORIZONTAL ELLIPSIS} {name[-half:]}"


def bytes_size(size: int) -> str:
    """15.6 GiB."""
    return f"{size / 2**30:.1f}{GAP}GiB"


def megabytes(size: float | None) -> str:
    """1.10 MB: powers of 1000."""
    return UNKNOWN if size is None else byte_words(size, GAP)


def max_bytes_words(limit: MaxBytes) -> str:
    """20 MB, or 40 % of the baseline's."""
    words = f"{limit.amount:g}{GAP}{limit.unit}"
    return f"{words} of the baseline's" if limit.unit == "%" else words


def level_meaning(spelling: str) -> str:
    """What N:M counts, for a level of that pattern; empty for the others."""
    try:
        pattern = Level.parse(spelling).pattern
    except ConfigError:
        return ""
    return nm_meaning(pattern) if isinstance(pattern, NM) else ""


def nm_meaning(pattern: NM) -> str:
    """2 non-zeros in every 4, 50 % zeros: others count the zeros."""
    noun = "non-zero" if pattern.nonzeros == 1 else "non-zeros"
    kept = f"{pattern.nonzeros} {noun} in every{GAP}{pattern.group}"
    return f"{kept}, {100 * pattern.sparsity:.3g}{GAP}% zeros"


def is_baseline_level(spelling: str) -> bool:
    """Whether a spelling stands for a layer as it came."""
    try:
        return Level.parse(spelling).is_baseline
    except ConfigError:
        return False


@dataclass(frozen=True)
class QualityWords:
    """How one metric and its drop are spelled: points where it lies in [0, 1]."""

    metric: str

    @property
    def name(self) -> str:
        """The metric in words."""
        return _METRIC_NAMES.get(self.metric, self.metric)

    @property
    def in_points(self) -> bool:
        """Whether a drop is shown in percentage points."""
        return self.metric in BUILT_IN and BUILT_IN[self.metric].in_unit_interval

    @property
    def is_divergence(self) -> bool:
        """Whether the metric only compares with the dense model's own outputs."""
        return self.metric in {"kl", "relative_error"}

    @property
    def unit(self) -> str:
        """Unit of a drop."""
        if self.in_points:
            return "points"
        return "nats" if self.metric in {"kl", "cross_entropy"} else ""

    @property
    def suffix(self) -> str:
        """The unit as it follows a number; empty where there is none."""
        return f"{GAP}{self.unit}" if self.unit else ""

    @property
    def drop_scale(self) -> float:
        """Shown number of a drop over the stored one."""
        return 100.0 if self.in_points else 1.0

    def value(self, value: float) -> str:
        """88.4 %, or the number in the metric's own unit."""
        if self.in_points:
            return share(value)
        return f"{significant(value)}{self.suffix}"

    def drop(self, drop: float) -> str:
        """0.1 points; positive is worse."""
        return f"{self._number(drop)}{self.suffix}"

    def change(self, drop: float) -> str:
        """The same as seen from the metric: a drop of 0.1 is -0.1 points."""
        if self.is_divergence:
            return self.drop(drop)
        number = self._number(-drop)
        plus = "+" if -drop > 0 and number.strip("0.") else ""
        return f"{plus}{number}{self.suffix}"

    def drop_range(self, interval: Interval) -> str:
        """-0.4 to 0.6 points."""
        low, high = self._number(interval.low), self._number(interval.high)
        return f"{low} to {high}{self.suffix}"

    def _number(self, drop: float) -> str:
        if not self.in_points:
            return significant(drop)
        points = drop * 100
        # a tenth of a point is what people read; smaller drops must not look like none
        digits = 1 if abs(points) >= 0.095 or points == 0 else 2
        return _signed(f"{points:.{digits}f}")


def budget_words(contract: Contract) -> str:
    """60 %, or 8 ms."""
    budget = contract.budget
    return f"{budget.amount:g}{GAP}{budget.unit}"


def max_drop_words(max_drop: MaxDrop, quality: QualityWords) -> str:
    """1 point; 1 % of the dense model's accuracy; 0.01."""
    if max_drop.unit == "%":
        return f"{max_drop.amount:g}{GAP}% of the dense model's {quality.name}"
    if max_drop.unit == "pt":
        return points(max_drop.amount)
    if quality.in_points:
        return points(max_drop.amount * quality.drop_scale)
    return f"{max_drop.amount:g}{quality.suffix}"


def points(amount: float) -> str:
    """1 point, 0.5 points."""
    return f"{amount:.3g}{GAP}{'point' if amount == 1 else 'points'}"


def _signed(number: str) -> str:
    """A typographic minus, and none before a zero."""
    if number.startswith("-"):
        return number[1:] if float(number) == 0 else MINUS + number[1:]
    return number
