"""The quality-latency plot as the report shows it: marks, their words, and the front as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.chart_scales import plain_number
from autosparse.artifacts.front_chart import (
    DRAWING_ORDER,
    FRAMES,
    Axes,
    Bounds,
    FrontDrawing,
    Point,
    draw_front,
    front_axes,
    pareto_front,
)
from autosparse.artifacts.report_data import TrialPoint
from autosparse.artifacts.report_words import (
    QualityWords,
    budget_words,
    max_drop_words,
    milliseconds,
    plural,
    points,
    share,
)
from autosparse.evaluation import Contract


@dataclass(frozen=True)
class FrontSource:
    """What the plot is drawn from, of a job that is over or still runs."""

    trials: tuple[TrialPoint, ...]
    contract: Contract
    metric: str
    """Name of the metric that drops are told in."""
    delivered: str | None
    """Recipe of the delivered file; None where there is none yet."""


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
    """Lines of text of every mark, in the marks' order."""
    rows: tuple[FrontRow, ...]
    notes: tuple[str, ...]
    summary: str
    """The plot in words."""
    percentile: str
    """Percentile that latencies are told at."""
    y_title: str
    budget_label: str
    allowed_label: str
    kinds: frozenset[str]
    """What is in the plot, for the legend."""


def front_view(data: FrontSource) -> FrontView:
    """Lay the plot out in both sizes."""
    contract = data.contract
    quality = QualityWords(data.metric)
    scale = quality.drop_scale
    trials = [t for t in data.trials if math.isfinite(t.latency_ratio) and math.isfinite(t.drop)]
    front = pareto_front(trials)
    marked = _marked(trials, front, data)
    places = [
        Point(t.latency_ratio, t.drop * scale, kind, mark_label(t, kind)) for t, kind in marked
    ]
    places.append(Point(1.0, 0.0, "baseline", "baseline"))
    bounds = Bounds(contract.latency_ratio, contract.allowed_drop() * scale)
    axes = front_axes(places, bounds)
    corners = _corners(front, scale)
    unplotted = len(data.trials) - len(trials)
    return FrontView(
        drawings=tuple(draw_front(f, axes, places, corners, bounds) for f in FRAMES),
        tips=(*(_tip(t, data, quality) for t, _ in marked), baseline_tip(contract)),
        rows=tuple(_row(t, data, quality) for t in front),
        notes=(
            *_axis_notes(axes, places, bounds, quality),
            *([f"{plural(unplotted, 'trial')} without finite numbers left out."] * (unplotted > 0)),
            *(["The delivered file is not among them."] if _lacks_delivered(trials, data) else []),
        ),
        summary=_summary(trials, front, data),
        percentile=contract.percentile,
        y_title=drop_title(quality),
        budget_label=f"budget {budget_words(contract)}",
        allowed_label=f"max_drop {max_drop_words(contract.max_drop, quality)}",
        kinds=frozenset(p.kind for p in places),
    )


def _marked(
    trials: Sequence[TrialPoint], front: Sequence[TrialPoint], data: FrontSource
) -> list[tuple[TrialPoint, str]]:
    """Trials with the kind of their mark, in drawing order; from the fastest on within a kind."""
    on_front = {t.recipe_id for t in front}

    def kind(trial: TrialPoint) -> str:
        own = mark_kind(trial, data.delivered)
        is_plain = own in ("inside", "outside")
        return "front" if is_plain and trial.recipe_id in on_front else own

    marked = [(t, kind(t)) for t in trials]
    return sorted(marked, key=lambda m: (DRAWING_ORDER.index(m[1]), m[0].latency_ratio, m[0].drop))


def mark_kind(trial: TrialPoint, delivered: str | None) -> str:
    """What a trial is drawn as, the front left aside.

    Args:
        trial: a measured recipe.
        delivered: the recipe of the delivered file.
    """
    if trial.recipe_id == delivered:
        return "delivered"
    if trial.is_plain_int8:
        return "int8"
    return "inside" if trial.deliverable else "outside"


def mark_label(trial: TrialPoint, kind: str) -> str:
    """The name beside a mark of that kind; empty for most."""
    if kind == "delivered":
        return "delivered: plain INT8" if trial.is_plain_int8 else "delivered"
    return "plain INT8" if kind == "int8" else ""


def _corners(front: Sequence[TrialPoint], scale: float) -> list[tuple[float, float]]:
    """The front's line; the baseline ends it, unless something beats that as well."""
    corners = [(t.latency_ratio, t.drop * scale) for t in front]
    if not any(ratio <= 1.0 and drop <= 0.0 for ratio, drop in corners):
        corners.append((1.0, 0.0))
    return sorted(corners)


def _lacks_delivered(trials: Sequence[TrialPoint], data: FrontSource) -> bool:
    return data.delivered is not None and all(t.recipe_id != data.delivered for t in trials)


def _tip(trial: TrialPoint, data: FrontSource, quality: QualityWords) -> tuple[str, ...]:
    lines = [
        f"recipe {trial.recipe_id}",
        f"proposed by {trial.proposed_by}",
        f"{milliseconds(trial.latency_seconds)}, {share(trial.latency_ratio)} of the baseline",
        f"drop {quality.drop(trial.drop)} ({quality.drop_range(trial.drop_interval)})",
        plural(trial.compressed_layers, "compressed layer"),
    ]
    remark = _remark(trial, data)
    return (*lines, remark) if remark else tuple(lines)


def baseline_tip(contract: Contract) -> tuple[str, ...]:
    """What the mark of the model as it came tells."""
    before = milliseconds(contract.baseline_seconds)
    return ("baseline", f"{before}, the dense model as it came")


def _remark(trial: TrialPoint, data: FrontSource) -> str:
    remarks = []
    if trial.recipe_id == data.delivered:
        remarks.append("delivered")
    if trial.is_plain_int8:
        remarks.append("plain INT8")
    if trial.deliverable:
        remarks.append("meets the contract")
    return ", ".join(remarks)


def _row(trial: TrialPoint, data: FrontSource, quality: QualityWords) -> FrontRow:
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


def drop_title(quality: QualityWords) -> str:
    """Of an axis that drops are told on: what of, and in what unit."""
    title = quality.name if quality.is_divergence else f"Drop of {quality.name}"
    title = title[:1].upper() + title[1:]
    return f"{title} ({quality.unit})" if quality.unit else title


def _axis_notes(
    axes: Axes, places: Sequence[Point], bounds: Bounds, quality: QualityWords
) -> list[str]:
    """Whatever the axes bend or leave out is said."""
    notes = []
    if axes.y_kind == "symlog":
        end = axes.linear_up_to
        spelled = points(end) if quality.in_points else f"{end:.3g}{quality.suffix}"
        notes.append(f"The drop axis is linear up to {spelled} and logarithmic beyond.")
    late = sum(p.ratio > axes.right for p in places)
    if late:
        notes.append(
            f"{plural(late, 'trial')} beyond {share(axes.right, 0)} of the baseline's latency: "
            "drawn hollow at the edge."
        )
    off = sum(not axes.bottom <= p.drop <= axes.top for p in places)
    if off:
        low, high = (plain_number(float(f"{end:.3g}")) for end in (axes.bottom, axes.top))
        shown = f"{low} to {high}{quality.suffix}"
        notes.append(
            f"{plural(off, 'trial')} with a drop outside {shown}: drawn hollow at the edge."
        )
    if bounds.budget > axes.right:
        notes.append("The budget lies right of the plot.")
    if bounds.allowed > axes.top:
        notes.append("The allowed drop lies above the plot.")
    return notes


def _summary(trials: Sequence[TrialPoint], front: Sequence[TrialPoint], data: FrontSource) -> str:
    inside = sum(t.deliverable for t in trials)
    verb = "meets" if inside == 1 else "meet"
    return (
        f"{plural(len(trials), 'measured trial')}: {inside} {verb} the contract on the rows that "
        f"select, {len(front)} on the Pareto front. The baseline took "
        f"{milliseconds(data.contract.baseline_seconds)}."
    )
