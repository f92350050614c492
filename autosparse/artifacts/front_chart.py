"""Geometry of the quality-latency plot: axes, marks, labels and the step line of the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.chart_scales import Frame, Kind, Scale, Tick, percent_number
from autosparse.artifacts.report_data import TrialPoint

FRAMES = (
    Frame(width=1080, height=440, left=60, right=24),
    Frame(width=360, height=380, left=46, right=12),
)
"""Wide and phone."""
DRAWING_ORDER = ("outside", "inside", "front", "int8", "delivered", "baseline")
"""What stands out is drawn last, over the crowd."""

_NARROW = 500
_DEEPEST = 1e4
"""Largest shown drop over the part of the axis that is linear."""
_CROWD = 0.9
"""Share of the trials that the axes are made for."""


@dataclass(frozen=True)
class Point:
    """A place in the plot; the drop as it is shown, in points or the metric's unit."""

    ratio: float
    drop: float
    kind: str
    label: str = ""


@dataclass(frozen=True)
class Bounds:
    """The contract in the plot's numbers."""

    budget: float
    """Largest share of the baseline's latency."""
    allowed: float
    """Largest drop, as it is shown."""


@dataclass(frozen=True)
class Axes:
    """Ends of both axes."""

    left: float
    right: float
    bottom: float
    top: float
    y_kind: Kind
    linear_up_to: float

    def x_scale(self, frame: Frame) -> Scale:
        """Latency to pixels."""
        return Scale(self.left, self.right, *frame.x_range)

    def y_scale(self, frame: Frame) -> Scale:
        """Drop to pixels."""
        return Scale(
            self.bottom, self.top, *frame.y_range, kind=self.y_kind, linear_up_to=self.linear_up_to
        )


@dataclass(frozen=True)
class Mark:
    """One point in the drawing."""

    x: float
    y: float
    kind: str
    beyond: bool
    """Whether its true place lies off the axes: it is drawn at the edge."""


@dataclass(frozen=True)
class Label:
    """A name beside a mark."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True)
class FrontDrawing:
    """One size of the plot."""

    frame: Frame
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float
    budget: float | None
    """Pixel of the budget; None where it lies beyond the plot."""
    allowed: float | None
    inside: tuple[float, float]
    """Right and top corner of the area that meets the contract."""
    front: str
    """Path of the step line."""
    marks: tuple[Mark, ...]
    labels: tuple[Label, ...]


def pareto_front(trials: Sequence[TrialPoint]) -> tuple[TrialPoint, ...]:
    """Trials that neither another nor the baseline beats in both latency and drop, fastest first.

    Of trials with the same latency and drop, the first stays.
    """
    front: list[TrialPoint] = []
    for trial in sorted(trials, key=lambda t: (t.latency_ratio, t.drop)):
        beats_baseline = trial.latency_ratio < 1.0 or trial.drop < 0.0
        if beats_baseline and (not front or trial.drop < front[-1].drop):
            front.append(trial)
    return tuple(front)


def front_axes(points: Sequence[Point], bounds: Bounds) -> Axes:
    """Choose the axes so that the contract and most points are seen well."""
    ratios = sorted(p.ratio for p in points)
    # a few far-off trials must not squeeze all others into a corner
    crowd = max(1.0, ratios[int(_CROWD * (len(ratios) - 1))])
    right = max(1.05, min(ratios[-1] * 1.03, 1.6 * crowd))
    lowest = min(ratios[0], bounds.budget, 1.0)
    left = max(0.0, lowest - 0.08 * (right - lowest))
    drops = sorted(p.drop for p in points)
    worst, best, usual = drops[-1], drops[0], max(0.0, drops[int(_CROWD * (len(drops) - 1))])
    # an allowed drop far beyond everything measured is left out
    shown = max(worst, min(bounds.allowed, 20 * worst) if worst > 0 else bounds.allowed) or 1.0
    linear_up_to = max(bounds.allowed or min(usual, shown) / 20, usual / _DEEPEST) or shown / 20
    wide = shown > 6 * linear_up_to
    top = min(shown * (1.3 if wide else 1.12), linear_up_to * _DEEPEST)
    bottom = min(-0.06 * (linear_up_to if wide else top), max(best * 1.15, -top))
    return Axes(left, right, bottom, top, "symlog" if wide else "linear", linear_up_to)


def draw_front(
    frame: Frame,
    axes: Axes,
    points: Sequence[Point],
    corners: Sequence[tuple[float, float]],
    bounds: Bounds,
) -> FrontDrawing:
    """Lay out one size of the plot.

    Args:
        frame: size and margins.
        axes: what the axes reach.
        points: every mark, in drawing order.
        corners: (ratio, drop) of the front, from the fastest on.
        bounds: the contract.
    """
    x, y = axes.x_scale(frame), axes.y_scale(frame)
    narrow = frame.width < _NARROW
    marks = tuple(
        Mark(x(p.ratio), y(p.drop), p.kind, not (x.shows(p.ratio) and y.shows(p.drop)))
        for p in points
    )
    return FrontDrawing(
        frame=frame,
        x_ticks=x.ticks(52 if narrow else 70, percent_number),
        y_ticks=y.ticks(30),
        zero=y(0.0),
        budget=x(bounds.budget) if x.shows(bounds.budget) else None,
        allowed=y(bounds.allowed) if y.shows(bounds.allowed) else None,
        inside=(x(min(bounds.budget, 1.0)), y(bounds.allowed)),
        front=_steps_path([(x(ratio), y(drop)) for ratio, drop in corners], frame),
        marks=marks,
        labels=_labels(frame, [(m, p.label) for m, p in zip(marks, points, strict=True)]),
    )


def _steps_path(corners: Sequence[tuple[float, float]], frame: Frame) -> str:
    """Down from the top at the fastest, then right to the next and down to it, to the right end."""
    if not corners:
        return ""
    first_x, first_y = corners[0]
    steps = "".join(f"H{x:g}V{y:g}" for x, y in corners[1:])
    return f"M{first_x:g} {frame.top}V{first_y:g}{steps}H{frame.width - frame.right}"


def _labels(frame: Frame, named: Sequence[tuple[Mark, str]]) -> tuple[Label, ...]:
    """Put each name where it stays inside the frame and off the names before it."""
    taken: list[tuple[float, float, float]] = []
    labels: list[Label] = []
    # the last drawn is the most important, so it chooses first
    for mark, text in reversed([(m, t) for m, t in named if t]):
        width = 6.6 * len(text)
        places = (
            (mark.x + 11, mark.y - 8, "start"),
            (mark.x + 11, mark.y + 16, "start"),
            (mark.x - 11, mark.y - 8, "end"),
            (mark.x - 11, mark.y + 16, "end"),
            (mark.x + 11, mark.y - 24, "start"),
            (mark.x - 11, mark.y - 24, "end"),
        )
        free = [p for p in places if _is_free(p, width, frame, taken)]
        x, y, anchor = (free or places)[0]
        taken.append((_left(x, anchor, width), y, width))
        labels.append(Label(round(x, 1), round(y, 1), anchor, text))
    return tuple(labels)


def _left(x: float, anchor: str, width: float) -> float:
    return x if anchor == "start" else x - width


def _is_free(
    place: tuple[float, float, str],
    width: float,
    frame: Frame,
    taken: Sequence[tuple[float, float, float]],
) -> bool:
    x, y, anchor = place
    left = _left(x, anchor, width)
    inside = left >= frame.left and left + width <= frame.width - frame.right
    inside = inside and frame.top + 10 <= y <= frame.height - frame.bottom - 2
    return inside and all(
        left + width < other or other + other_width < left or abs(y - other_y) > 14
        for other, other_y, other_width in taken
    )
