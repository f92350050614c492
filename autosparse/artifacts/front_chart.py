"""The quality-latency plot: every measured trial, the front, the budget and the allowed drop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.chart_scales import Frame, Kind, Scale, Tick, percent_number
from autosparse.artifacts.report_data import ReportData, TrialPoint
from autosparse.artifacts.report_words import (
    MINUS,
    QualityWords,
    budget_words,
    max_drop_words,
    milliseconds,
    plural,
    share,
)
from autosparse.evaluation import Contract

FRAMES = (
    Frame(width=1080, height=440, left=60, right=24),
    Frame(width=360, height=380, left=46, right=12),
)
"""Wide and phone."""
_DEEPEST = 1e4
"""Largest shown drop over the part of the axis that is linear."""


@dataclass(frozen=True)
class Mark:
    """One trial in the drawing."""

    x: float
    y: float
    kind: str
    tip: int
    """Index of its text."""


@dataclass(frozen=True)
class FrontDrawing:
    """One size of the plot."""

    frame: Frame
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float
    """Pixel of no drop."""
    budget: float | None
    """Pixel of the budget; None where it lies beyond the plot."""
    allowed: float | None
    inside: tuple[float, float]
    """Right and top corner of the area that meets the contract."""
    front: str
    """Path of the step line."""
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class FrontRow:
    """One point of the front, for the table beside the plot."""

    recipe_id: str
    proposed_by: str
    latency: str
    ratio: str
    drop: str
    interval: str
    layers: int
    remark: str


@dataclass(frozen=True)
class FrontView:
    """The plot, its legend's facts and its table."""

    drawings: tuple[FrontDrawing, ...]
    tips: tuple[tuple[str, ...], ...]
    """Lines of text of every mark."""
    rows: tuple[FrontRow, ...]
    notes: tuple[str, ...]
    summary: str
    """The plot in words."""
    y_title: str
    budget_label: str
    allowed_label: str
    kinds: frozenset[str]
    """What is in the plot, for the legend."""


@dataclass(frozen=True)
class _Point:
    """A place in the plot, in display units."""

    ratio: float
    drop: float
    kind: str
    trial: TrialPoint | None


def pareto_front(trials: Sequence[TrialPoint]) -> tuple[TrialPoint, ...]:
    """Trials that no other beats in both latency and drop, from the fastest on.

    Of trials with the same latency and drop, the first stays.
    """
    front: list[TrialPoint] = []
    for trial in sorted(trials, key=lambda t: (t.latency_ratio, t.drop)):
        if not front or trial.drop < front[-1].drop:
            front.append(trial)
    return tuple(front)


def front_view(data: ReportData) -> FrontView:
    """Lay the plot out in both sizes."""
    quality = QualityWords(data.manifest.quality.metric)
    trials = [t for t in data.trials if math.isfinite(t.latency_ratio) and math.isfinite(t.drop)]
    contract, delivered = data.manifest.contract, data.manifest.recipe_id
    front = pareto_front(trials)
    ids = {t.recipe_id for t in front}
    points = [
        _Point(t.latency_ratio, t.drop * quality.drop_scale, _kind(t, ids, delivered), t)
        for t in sorted(trials, key=lambda t: (t.latency_ratio, t.drop))
    ]
    # what stands out is drawn last, over the crowd
    points.sort(key=lambda p: _ORDER.index(p.kind))
    points.append(_Point(1.0, 0.0, "baseline", None))
    axes = _axes(points, contract, quality)
    tips = tuple(_tip(p, data, quality) for p in points)
    unplotted = len(data.trials) - len(trials)
    return FrontView(
        drawings=tuple(_draw(frame, axes, points, front, contract, quality) for frame in FRAMES),
        tips=tips,
        rows=tuple(_row(t, data, quality) for t in front),
        notes=_notes(axes, points, contract, quality, unplotted),
        summary=_summary(trials, front, data),
        y_title=_y_title(quality),
        budget_label=f"budget {budget_words(contract)}",
        allowed_label=f"max_drop {max_drop_words(contract.max_drop, quality)}",
        kinds=frozenset(p.kind for p in points),
    )


_ORDER = ("outside", "inside", "front", "int8", "delivered")


def _kind(trial: TrialPoint, front: set[str], delivered: str) -> str:
    if trial.recipe_id == delivered:
        return "delivered"
    if trial.is_plain_int8:
        return "int8"
    if trial.recipe_id in front:
        return "front"
    return "inside" if trial.deliverable else "outside"


@dataclass(frozen=True)
class _Axes:
    """Ends of both axes, in display units."""

    left: float
    right: float
    bottom: float
    top: float
    y_kind: Kind
    linear_up_to: float

    def x_scale(self, frame: Frame) -> Scale:
        return Scale(self.left, self.right, *frame.x_range)

    def y_scale(self, frame: Frame) -> Scale:
        return Scale(
            self.bottom, self.top, *frame.y_range, kind=self.y_kind, linear_up_to=self.linear_up_to
        )


def _axes(points: Sequence[_Point], contract: Contract, quality: QualityWords) -> _Axes:
    ratios = sorted(p.ratio for p in points)
    budget = min(contract.latency_ratio, 1.0)
    # a few far-off trials must not squeeze all others into a corner
    right = max(1.05, min(ratios[-1] * 1.03, 1.6 * max(1.0, ratios[int(0.9 * len(ratios))])))
    lowest = min(ratios[0], budget)
    left = max(0.0, lowest - 0.08 * (right - lowest))
    drops = [p.drop for p in points]
    allowed = contract.allowed_drop() * quality.drop_scale
    worst, best = max(drops), min(drops)
    shown = max(worst, min(allowed, 3 * worst) if worst > 0 else allowed) or 1.0
    linear_up_to = max(allowed if allowed > 0 else shown / 20, shown / _DEEPEST)
    wide = shown > 6 * linear_up_to
    top = min(shown * (1.3 if wide else 1.12), linear_up_to * _DEEPEST)
    bottom = min(-0.06 * (linear_up_to if wide else top), max(best * 1.15, -top))
    return _Axes(left, right, bottom, top, "symlog" if wide else "linear", linear_up_to)


def _draw(
    frame: Frame, axes: _Axes, points: Sequence[_Point], front: Sequence[TrialPoint],
    contract: Contract, quality: QualityWords,
) -> FrontDrawing:  # fmt: skip
    x, y = axes.x_scale(frame), axes.y_scale(frame)
    allowed = contract.allowed_drop() * quality.drop_scale
    budget = contract.latency_ratio
    narrow = frame.width < 500
    return FrontDrawing(
        frame=frame,
        x_ticks=x.ticks(52 if narrow else 70, percent_number),
        y_ticks=y.ticks(30),
        zero=y(0.0),
        budget=x(budget) if x.shows(budget) else None,
        allowed=y(allowed) if y.shows(allowed) else None,
        inside=(x(min(budget, 1.0)), y(allowed)),
        front=_steps_path([(x(t.latency_ratio), y(t.drop * quality.drop_scale)) for t in front],
                          frame),
        marks=tuple(
            Mark(x(p.ratio), y(p.drop), _clipped(p, x, y), i) for i, p in enumerate(points)
        ),
    )  # fmt: skip


def _clipped(point: _Point, x: Scale, y: Scale) -> str:
    return point.kind if x.shows(point.ratio) and y.shows(point.drop) else f"{point.kind} beyond"


def _steps_path(corners: Sequence[tuple[float, float]], frame: Frame) -> str:
    """Down from the top at the fastest, then right to the next and down to it, to the right end."""
    if not corners:
        return ""
    first_x, first_y = corners[0]
    path = f"M{first_x:g} {frame.top}V{first_y:g}"
    for next_x, next_y in corners[1:]:
        path += f"H{next_x:g}V{next_y:g}"
    return f"{path}H{frame.width - frame.right}"


def _tip(point: _Point, data: ReportData, quality: QualityWords) -> tuple[str, ...]:
    trial = point.trial
    if trial is None:
        before = data.manifest.contract.baseline_seconds
        return ("baseline", f"{milliseconds(before)}, the dense model as it came")
    lines = [
        f"recipe {trial.recipe_id}",
        f"proposed by {trial.proposed_by}",
        f"{milliseconds(trial.latency_seconds)}, {share(trial.latency_ratio)} of the baseline",
        f"drop {quality.drop(trial.drop)} ({quality.drop_range(trial.drop_interval)})",
        plural(trial.compressed_layers, "compressed layer"),
    ]
    remark = _remark(trial, data)
    return (*lines, remark) if remark else tuple(lines)


def _remark(trial: TrialPoint, data: ReportData) -> str:
    remarks = []
    if trial.recipe_id == data.manifest.recipe_id:
        remarks.append("delivered")
    if trial.is_plain_int8:
        remarks.append("plain INT8")
    if trial.deliverable:
        remarks.append("meets the contract")
    return ", ".join(remarks)


def _row(trial: TrialPoint, data: ReportData, quality: QualityWords) -> FrontRow:
    return FrontRow(
        recipe_id=trial.recipe_id,
        proposed_by=trial.proposed_by,
        latency=milliseconds(trial.latency_seconds),
        ratio=share(trial.latency_ratio),
        drop=quality.drop(trial.drop),
        interval=quality.drop_range(trial.drop_interval),
        layers=trial.compressed_layers,
        remark=_remark(trial, data),
    )


def _y_title(quality: QualityWords) -> str:
    if quality.is_divergence:
        return f"{quality.name} ({quality.unit})" if quality.unit else quality.name
    return f"Drop of {quality.name}" + (f" ({quality.unit})" if quality.unit else "")


def _notes(
    axes: _Axes, points: Sequence[_Point], contract: Contract, quality: QualityWords, unplotted: int
) -> tuple[str, ...]:
    notes = []
    unit = f" {quality.unit}" if quality.unit else ""
    if axes.y_kind == "symlog":
        notes.append(
            f"The drop axis is linear up to {axes.linear_up_to:.4g}{unit} and logarithmic beyond."
        )
    late = sum(p.ratio > axes.right for p in points)
    if late:
        notes.append(f"{plural(late, 'trial')} slower than {share(axes.right, 0)} of the baseline "
                     "at the right edge (hollow).")  # fmt: skip
    bad = sum(not axes.bottom <= p.drop <= axes.top for p in points)
    if bad:
        side = f"{axes.bottom:.3g} to {axes.top:.3g}".replace("-", MINUS)
        notes.append(f"{plural(bad, 'trial')} outside {side}{unit} at the edge (hollow).")
    if contract.latency_ratio > axes.right:
        notes.append("The budget lies right of the plot.")
    if contract.allowed_drop() * quality.drop_scale > axes.top:
        notes.append("The allowed drop lies above the plot.")
    if unplotted:
        notes.append(f"{plural(unplotted, 'trial')} without a finite number left out.")
    return tuple(notes)


def _summary(
    trials: Sequence[TrialPoint], front: Sequence[TrialPoint], data: ReportData
) -> str:
    inside = sum(t.deliverable for t in trials)
    verb = "meets" if inside == 1 else "meet"
    return (
        f"{plural(len(trials), 'measured trial')}, {inside} of which {verb} the contract; "
        f"{len(front)} on the Pareto front. The baseline took "
        f"{milliseconds(data.manifest.contract.baseline_seconds)}."
    )
