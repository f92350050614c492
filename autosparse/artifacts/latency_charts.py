"""Geometry of the latency charts: samples of both files, and their ratio round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosparse.artifacts.chart_scales import Frame, Scale, Tick, percent_number, plain_number
from autosparse.evaluation import Comparison, Measurement, Percentile

HISTOGRAM_FRAMES = (
    Frame(width=540, height=210, left=12, right=16, top=22, bottom=42),
    Frame(width=360, height=180, left=10, right=12, top=22, bottom=42),
)
ROUND_FRAMES = (
    Frame(width=1080, height=190, left=60, right=24, top=14, bottom=40),
    Frame(width=360, height=180, left=56, right=12, top=14, bottom=40),
)
_BARS = (64, 44)
_SHOWN_SHARE = 99.0
"""Percentile of the samples that the axis is made for."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram, in pixels."""

    x: float
    width: float
    top: float
    """Top of all samples: those that count, and the discarded ones on them."""
    counted_top: float
    """Top of the samples that count."""


@dataclass(frozen=True)
class Histogram:
    """The samples of one file in one size."""

    frame: Frame
    bars: tuple[Bar, ...]
    base: float
    p50: float
    p95: float
    x_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class RoundDot:
    """One round: both files timed side by side."""

    x: float
    y: float
    accepted: bool
    beyond: bool


@dataclass(frozen=True)
class RoundsDrawing:
    """Ratio of each round in one size."""

    frame: Frame
    dots: tuple[RoundDot, ...]
    ratio: float
    band: tuple[float, float]
    """Top and bottom of the interval."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def histograms(measurement: Measurement) -> tuple[Histogram, ...]:
    """Histogram of one file in both sizes; samples beyond the axis fall into the last bar."""
    axis = _sample_axis(measurement)
    return tuple(
        _histogram(measurement, axis, frame, bars)
        for frame, bars in zip(HISTOGRAM_FRAMES, _BARS, strict=True)
    )


def samples_beyond(measurement: Measurement) -> int:
    """Samples slower than the axis reaches, discarded ones included."""
    return int((1e3 * _every_sample(measurement) > _sample_axis(measurement)[1]).sum())


def _sample_axis(measurement: Measurement) -> tuple[float, float]:
    """Milliseconds that the axis reaches from and to: made for the samples that count."""
    samples = 1e3 * _shown_samples(measurement)
    low, high = float(samples.min()), float(np.percentile(samples, _SHOWN_SHARE))
    room = max(0.08 * (high - low), 0.005 * high, 1e-9)
    return max(0.0, low - room), high + room


def _histogram(
    measurement: Measurement, axis: tuple[float, float], frame: Frame, bars: int
) -> Histogram:
    x = Scale(*axis, *frame.x_range)
    edges = np.linspace(*axis, bars + 1)
    counted = _binned(measurement.samples_seconds, edges)
    every = _binned(_every_sample(measurement), edges)
    y = Scale(0.0, float(max(every.max(), 1)), *frame.y_range)
    pixels = [x(float(edge)) for edge in edges]
    p50, p95 = np.percentile(1e3 * _shown_samples(measurement), [50, 95])
    return Histogram(
        frame=frame,
        bars=tuple(
            Bar(left, round(max(right - left - 0.5, 0.5), 1), y(float(total)), y(float(kept)))
            for left, right, total, kept in zip(pixels, pixels[1:], every, counted, strict=False)
            if total
        ),
        base=y(0.0),
        p50=x(float(p50)),
        p95=x(float(p95)),
        x_ticks=x.ticks(64, plain_number),
    )


def _shown_samples(measurement: Measurement) -> Floats:
    """The samples that count; all of them where none does."""
    counted = measurement.samples_seconds
    return counted if counted.size else _every_sample(measurement)


def _binned(seconds: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    inside = np.clip(1e3 * seconds, edges[0], edges[-1])
    return np.asarray(np.histogram(inside, bins=edges)[0], dtype=np.int64)


def _every_sample(measurement: Measurement) -> Floats:
    return np.array([s for b in measurement.blocks for s in b.samples_seconds] or [0.0])


def rounds_drawings(
    comparison: Comparison, percentile: Percentile, interval: tuple[float, float], ratio: float
) -> tuple[RoundsDrawing, ...]:
    """The ratio of every round in both sizes."""
    rounds = round_ratios(comparison, percentile)
    kept = [value for value, accepted in rounds if accepted] or [value for value, _ in rounds]
    values = [*kept, *interval, ratio]
    middle = (max(values) + min(values)) / 2
    # at least 2 % from top to bottom, so that noise does not look like a trend
    half = max((max(values) - min(values)) * 0.7, 0.01 * middle)
    low, high = max(0.0, middle - half), middle + half
    return tuple(_rounds(frame, rounds, (low, high), interval, ratio) for frame in ROUND_FRAMES)


def round_ratios(comparison: Comparison, percentile: Percentile) -> list[tuple[float, bool]]:
    """(ratio, whether it counts) of every round."""
    q = int(percentile[1:])
    return [
        (
            float(np.percentile(b.samples_seconds, q) / np.percentile(a.samples_seconds, q)),
            a.accepted and b.accepted,
        )
        for a, b in zip(comparison.baseline.blocks, comparison.candidate.blocks, strict=True)
    ]


def _rounds(
    frame: Frame,
    rounds: Sequence[tuple[float, bool]],
    ends: tuple[float, float],
    interval: tuple[float, float],
    ratio: float,
) -> RoundsDrawing:
    x = Scale(0.5, len(rounds) + 0.5, *frame.x_range)
    y = Scale(*ends, *frame.y_range)
    whole = [t for t in x.ticks(40) if float(t.label).is_integer()]
    return RoundsDrawing(
        frame=frame,
        dots=tuple(
            RoundDot(x(i), y(value), accepted, not y.shows(value))
            for i, (value, accepted) in enumerate(rounds, start=1)
        ),
        ratio=y(ratio),
        band=(y(interval[1]), y(interval[0])),
        x_ticks=tuple(whole),
        y_ticks=y.ticks(28, percent_number),
    )
