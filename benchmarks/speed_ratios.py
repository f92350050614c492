"""How many times faster one file is than another, single and over many shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autosparse.evaluation import Comparison, Measurement, Percentile
from benchmarks.rows import Row, skipped_row
from benchmarks.table import render_number

_PERCENTILE: Percentile = "p50"


@dataclass(frozen=True)
class Speedup:
    """The opponent's median over ours, with its 95 % interval: 2.0 is twice as fast."""

    seconds: float
    opponent_seconds: float
    ratio: float
    low: float
    high: float
    rounds: int
    """Undisturbed rounds that it rests on."""

    @classmethod
    def of(cls, opponent: Measurement, ours: Measurement) -> Speedup:
        """Compare two files of one interleaved run.

        Raises:
            MeasurementError: no round was undisturbed for both.
        """
        comparison = Comparison(baseline=opponent, candidate=ours)
        interval = comparison.ratio_interval(_PERCENTILE)
        return cls(
            seconds=ours.percentile_seconds(_PERCENTILE),
            opponent_seconds=opponent.percentile_seconds(_PERCENTILE),
            ratio=1 / comparison.ratio(_PERCENTILE),
            low=1 / interval.high,
            high=1 / interval.low,
            rounds=comparison.undisturbed_rounds,
        )

    def row(self, what: str, opponent: str, environment: str, note: str = "") -> Row:
        """A report of both speeds, so that the ratio is ours over theirs as in every row."""
        said = (
            f"{render_number(self.seconds * 1e3)} ms against "
            f"{render_number(self.opponent_seconds * 1e3)} ms; ratio {self.low:.2f} to "
            f"{self.high:.2f}, {self.rounds} rounds"
        )
        return Row(
            what=what, figure=1 / self.seconds, unit="per second", opponent=opponent,
            opponent_figure=1 / self.opponent_seconds, ratio=self.ratio, environment=environment,
            note=f"{said}; {note}" if note else said,
        )  # fmt: skip


@dataclass(frozen=True)
class MeanSpeedup:
    """Geometric mean over shapes."""

    ratio: float
    low: float
    high: float
    """Interval from those of the shapes, as if they were independent."""
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, speedups: Sequence[Speedup]) -> MeanSpeedup:
        """Average logarithms; at least one."""
        logs = [math.log(one.ratio) for one in speedups]
        halves = [math.log(one.high / one.low) / 2 for one in speedups]
        mean = sum(logs) / len(logs)
        half = math.sqrt(sum(h * h for h in halves)) / len(halves)
        return cls(
            ratio=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half),
            least=math.exp(min(logs)), most=math.exp(max(logs)), count=len(logs),
        )  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """What a geometric mean is held against."""

    what: str
    opponent: str
    least: float | None = None
    """The smallest mean that holds; None for a report."""

    def row(self, speedups: Sequence[Speedup], environment: str, *, absent: str) -> Row:
        """The verdict.

        Args:
            speedups: of every shape that it is about.
            environment: that they were measured in.
            absent: why there may be none.
        """
        what = f"geometric mean against {self.opponent}: {self.what}"
        if not speedups:
            return skipped_row(what, absent, environment)
        mean = MeanSpeedup.of(speedups)
        return Row(
            what=what, figure=mean.ratio, unit="times as fast", opponent=self.opponent,
            ratio=mean.ratio, environment=environment,
            bar="" if self.least is None else f">= {self.least:g}",
            holds=None if self.least is None else mean.ratio >= self.least,
            note=f"{mean.low:.2f} to {mean.high:.2f} over {mean.count} "
            f"({mean.least:.2f} to {mean.most:.2f} each)",
        )  # fmt: skip


def fastest_of(measured: Mapping[str, Measurement], labels: Sequence[str]) -> str:
    """The label with the smallest median."""
    return min(labels, key=lambda label: measured[label].percentile_seconds(_PERCENTILE))
