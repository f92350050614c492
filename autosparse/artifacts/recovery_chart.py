"""Geometry of the recovery chart: divergence on rows held out over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.chart_scales import Frame, Scale, Tick
from autosparse.artifacts.predictor_chart import FRAMES, Spot

Curve = Sequence[tuple[int, float, float]]


@dataclass(frozen=True)
class RecoveryDrawing:
    """The curve in one size."""

    frame: Frame
    spots: tuple[Spot, ...]
    path: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def drawable(curve: Curve) -> list[tuple[int, float]]:
    """Points that can be drawn: (step, divergence)."""
    return [(step, held_out) for step, _, held_out in curve if math.isfinite(held_out)]


def recovery_drawings(curve: Curve) -> tuple[RecoveryDrawing, ...]:
    """Lay the curve out in both sizes, from no step and no divergence on."""
    points = drawable(curve)
    last = max((step for step, _ in points), default=1)
    highest = max((held_out for _, held_out in points), default=1.0) or 1.0
    return tuple(_draw(frame, points, last, 1.08 * highest) for frame in FRAMES)


def _draw(
    frame: Frame, points: Sequence[tuple[int, float]], last: int, highest: float
) -> RecoveryDrawing:
    x, y = Scale(0.0, float(last), *frame.x_range), Scale(0.0, highest, *frame.y_range)
    spots = tuple(Spot(x(step), y(held_out), beyond=False) for step, held_out in points)
    return RecoveryDrawing(
        frame=frame,
        spots=spots,
        path="M" + "L".join(f"{spot.x} {spot.y}" for spot in spots) if spots else "",
        x_ticks=x.ticks(70),
        y_ticks=y.ticks(36),
    )
