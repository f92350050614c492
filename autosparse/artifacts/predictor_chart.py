"""Geometry of the prediction chart: predicted over measured latency, with the identity line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autosparse.artifacts.chart_scales import Frame, Scale, Tick, percent_number

FRAMES = (
    Frame(width=520, height=420, left=60, right=20, top=26),
    Frame(width=360, height=330, left=52, right=12, top=26),
)
_CROWD = 99.0


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
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    identity: tuple[float, float, float, float]
    """x1, y1, x2, y2."""


def predictor_drawings(points: Sequence[tuple[float, float]]) -> tuple[PredictorDrawing, ...]:
    """Lay the scatter out in both sizes; both axes share their ends."""
    values = np.array([v for p in points for v in p if math.isfinite(v)] or [0.0, 1.0])
    low, high = float(values.min()), float(np.percentile(values, _CROWD))
    room = max(0.06 * (high - low), 0.01)
    return tuple(_draw(frame, points, max(0.0, low - room), high + room) for frame in FRAMES)


def finite_points(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that can be drawn."""
    return [p for p in points if all(math.isfinite(v) for v in p)]


def _draw(
    frame: Frame, points: Sequence[tuple[float, float]], low: float, high: float
) -> PredictorDrawing:
    x, y = Scale(low, high, *frame.x_range), Scale(low, high, *frame.y_range)
    return PredictorDrawing(
        frame=frame,
        spots=tuple(
            Spot(x(measured), y(predicted), not (x.shows(measured) and y.shows(predicted)))
            for measured, predicted in points
        ),
        x_ticks=x.ticks(56, percent_number),
        y_ticks=y.ticks(36, percent_number),
        identity=(x(low), y(low), x(high), y(high)),
    )
