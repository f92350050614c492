"""Geometry of the atlas's charts: latency over sparsity, with the dense levels as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.chart_scales import Frame, Scale, Tick, percent_number, plain_number
from autosparse.levels.break_even import AtlasEntry, family_of, measured_points

FRAMES = (
    Frame(width=640, height=340, left=56, right=84, top=26),
    Frame(width=360, height=320, left=46, right=70, top=26),
)
"""Wide and phone."""
_WIDE_RANGE = 5.0
"""Slowest over fastest from which on the axis is logarithmic, so that both are seen."""
_LABELS_APART = 14.0


@dataclass(frozen=True)
class Series:
    """One family of levels."""

    family: str
    number: int
    """Chooses colour and symbol, the same in every chart of a page."""
    path: str
    """Line through the marks."""


@dataclass(frozen=True)
class TimeMark:
    """One measured level."""

    x: float
    y: float
    number: int


@dataclass(frozen=True)
class DenseLine:
    """A dense level: a line from side to side."""

    y: float
    label_y: float
    label: str
    best: bool


@dataclass(frozen=True)
class Crossing:
    """Where a family breaks even."""

    x: float
    y: float
    number: int


@dataclass(frozen=True)
class AtlasDrawing:
    """One layer shape in one size."""

    frame: Frame
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    series: tuple[Series, ...]
    marks: tuple[TimeMark, ...]
    dense: tuple[DenseLine, ...]
    crossings: tuple[Crossing, ...]


def atlas_drawings(entry: AtlasEntry, families: Sequence[str]) -> tuple[AtlasDrawing, ...]:
    """Both sizes; none where no sparse level was measured.

    Args:
        entry: the layer shape.
        families: all of the page, so that a family looks the same in every chart.
    """
    if not any(measured_points(family, entry.times) for family in families):
        return ()
    return tuple(_draw(frame, entry, families) for frame in FRAMES)


def _draw(frame: Frame, entry: AtlasEntry, families: Sequence[str]) -> AtlasDrawing:
    x = Scale(0.0, 1.0, *frame.x_range)
    y = _latency_scale(entry, frame)
    series: list[Series] = []
    marks: list[TimeMark] = []
    for number, family in enumerate(families):
        points = [(x(at), y(s * 1e6)) for at, s in measured_points(family, entry.times)]
        if points:
            path = "M" + "L".join(f"{px:g} {py:g}" for px, py in points)
            series.append(Series(family, number, path))
            marks.extend(TimeMark(px, py, number) for px, py in points)
    bound = entry.best_dense.seconds if entry.best_dense is not None else None
    crossings = [
        Crossing(x(found.sparsity), y(bound * 1e6), families.index(found.family))
        for found in entry.break_evens
        if found.verdict == "from" and found.sparsity is not None and bound is not None
    ]
    return AtlasDrawing(
        frame=frame,
        x_ticks=x.ticks(44, percent_number),
        y_ticks=y.ticks(28, plain_number),
        series=tuple(series),
        marks=tuple(marks),
        dense=_dense_lines(entry, y),
        crossings=tuple(crossings),
    )


def mark_words(entry: AtlasEntry, families: Sequence[str]) -> list[list[str]]:
    """What is told of every mark, in the order of the marks."""
    told: list[list[str]] = []
    for family in families:
        own = [t for t in entry.times if t.sparsity > 0 and family_of(t.level) == family]
        timed = sorted((t.sparsity, t.seconds, str(t.level)) for t in own if t.seconds is not None)
        told.extend([level, f"{s * 1e6:.3g} us", f"{at:.0%} zeros"] for at, s, level in timed)
    return told


def _latency_scale(entry: AtlasEntry, frame: Frame) -> Scale:
    """Microseconds; from zero on where all of them are of one size."""
    times = [t.seconds * 1e6 for t in entry.times if t.seconds is not None and t.seconds > 0]
    low, high = min(times), max(times)
    if high > _WIDE_RANGE * low:
        return Scale(low / 1.25, high * 1.25, *frame.y_range, kind="log")
    return Scale(0.0, high * 1.1, *frame.y_range)


def _dense_lines(entry: AtlasEntry, y: Scale) -> tuple[DenseLine, ...]:
    timed = [t for t in entry.times if t.sparsity == 0 and t.seconds is not None]
    placed: list[DenseLine] = []
    label_y = float("-inf")
    for time in sorted(timed, key=lambda t: -(t.seconds or 0.0)):
        at = y((time.seconds or 0.0) * 1e6)
        # names of lines that lie together would cover each other
        label_y = max(at + 4, label_y + _LABELS_APART)
        placed.append(DenseLine(at, label_y, str(time.level), time == entry.best_dense))
    return tuple(placed)
