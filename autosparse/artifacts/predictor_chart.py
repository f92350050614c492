"""Geometry of the prediction chart: predicted over measured latency, with the identity line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autosparse.artifacts.chart_scales import Frame, Scale, Tick, percent_number
from autosparse.artifacts.report_data import PredictorReport

FRAMES = (
    Frame(width=520, height=420, left=60, right=20, top=26),
    Frame(width=360, height=330, left=52, right=12, top=26),
)
_CROWD = 99.0


@dataclass(frozen=True)
class Reading:
    """One recipe: shares of the baseline's latency."""

    measured: float
    predicted: float
    low: float
    """Where the interval of the prediction begins."""
    high: float

    @property
    def can_be_drawn(self) -> bool:
        """Whether there is a number for everything."""
        return all(map(math.isfinite, (self.measured, self.predicted, self.low, self.high)))


@dataclass(frozen=True)
class Spot:
    """One recipe."""

    x: float
    y: float
    beyond: bool
    """Whether its true place lies off the axes."""


@dataclass(frozen=True)
class PredictorDrawing:
    """The scatter in one size."""

    frame: Frame
    spots: tuple[Spot, ...]
    intervals: tuple[tuple[float, float, float], ...]
    """x, and both ends of what was predicted there; at the edge where one is beyond the axis."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    identity: tuple[float, float, float, float]
    """x1, y1, x2, y2."""


def readings(predictor: PredictorReport) -> list[Reading]:
    """What can be drawn of a report."""
    pairs = zip(predictor.points, predictor.intervals, strict=True)
    found = (Reading(*point, *interval) for point, interval in pairs)
    return [reading for reading in found if reading.can_be_drawn]


def predictor_drawings(points: Sequence[Reading]) -> tuple[PredictorDrawing, ...]:
    """Lay the scatter out in both sizes; both axes share their ends."""
    ends = [end for p in points for end in (p.measured, p.predicted, p.low, p.high)]
    values = np.array(ends or [0.0, 1.0])
    low, high = float(values.min()), float(np.percentile(values, _CROWD))
    room = max(0.06 * (high - low), 0.01)
    return tuple(_draw(frame, points, max(0.0, low - room), high + room) for frame in FRAMES)


def _draw(frame: Frame, points: Sequence[Reading], low: float, high: float) -> PredictorDrawing:
    x, y = Scale(low, high, *frame.x_range), Scale(low, high, *frame.y_range)
    return PredictorDrawing(
        frame=frame,
        spots=tuple(_spot(point, x, y) for point in points),
        intervals=tuple((x(p.measured), y(p.low), y(p.high)) for p in points),
        x_ticks=x.ticks(56, percent_number),
        y_ticks=y.ticks(36, percent_number),
        identity=(x(low), y(low), x(high), y(high)),
    )


def _spot(point: Reading, x: Scale, y: Scale) -> Spot:
    beyond = not (x.shows(point.measured) and y.shows(point.predicted))
    return Spot(x(point.measured), y(point.predicted), beyond)
