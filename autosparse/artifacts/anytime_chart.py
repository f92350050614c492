"""The anytime curve: how good the best answer of a job was, after how much work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autosparse.artifacts.chart_scales import Frame, Scale, Tick, percent_number, plain_number
from autosparse.artifacts.front_chart import Axes, Bounds, Mark, Point, front_axes
from autosparse.artifacts.report import render_part
from autosparse.artifacts.report_front import drop_title
from autosparse.artifacts.report_words import (
    QualityWords,
    budget_words,
    duration,
    max_drop_words,
    plural,
    share,
)
from autosparse.evaluation import Contract

FRAMES = (
    Frame(width=540, height=250, left=60, right=16, top=28),
    Frame(width=360, height=230, left=50, right=12, top=28),
)
"""Wide and phone."""
_UNITS = ((7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))
"""From how many seconds of work on a unit is used, its seconds, and its name."""
_LEAST_SECONDS = 1.0
_TICKS_APART = 52.0


@dataclass(frozen=True)
class Found:
    """What a trial came to."""

    drop: float
    """Loss of quality, in the metric's unit."""
    latency_ratio: float
    """Latency over the baseline's."""

    @property
    def is_finite(self) -> bool:
        """Whether it can be drawn."""
        return math.isfinite(self.drop) and math.isfinite(self.latency_ratio)


@dataclass(frozen=True)
class Moment:
    """The end of a trial."""

    seconds: float
    """Work of the job up to then; time in which it waited does not count."""
    number: int
    """Of the trial."""
    trial: Found
    """What the trial came to."""
    best: Found | None
    """The best answer from then on; None where nothing meets the contract yet."""
    is_new_best: bool
    """Whether the trial is that answer, and became it then."""


@dataclass(frozen=True)
class AnytimeSource:
    """What the curve is drawn from, of a job that is over or still runs."""

    moments: tuple[Moment, ...]
    """In order."""
    seconds: float
    """Work of the job up to now."""
    contract: Contract
    metric: str
    """Name of the metric that drops are told in."""


@dataclass(frozen=True)
class PanelDrawing:
    """One size of one panel."""

    frame: Frame
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bound: float | None
    """Pixel of what the contract allows; None where it lies beyond the plot."""
    curve: str
    """Path of the best answer."""
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Panel:
    """The drop, or the latency, over the time at work."""

    title: str
    bound_label: str
    drawings: tuple[PanelDrawing, ...]


@dataclass(frozen=True)
class AnytimeView:
    """Both panels, what is told of every mark, and the curve in words."""

    panels: tuple[Panel, ...]
    tips: tuple[tuple[str, ...], ...]
    summary: str
    x_title: str


@dataclass(frozen=True)
class _Side:
    """What a panel shows of a trial."""

    title: str
    bound_label: str
    bound: float
    value: Callable[[Found], float]
    scale: Callable[[Frame], Scale]
    spell: Callable[[float], str]


def render_anytime(source: AnytimeSource) -> str:
    """The curve as a piece of a page that has the report's style, and the front beside it."""
    return render_part("anytime_plot.html", anytime=anytime_view(source))


def anytime_view(source: AnytimeSource) -> AnytimeView:
    """Lay both panels out in both sizes; trials without finite numbers are left out."""
    quality = QualityWords(source.metric)
    finite = [moment for moment in source.moments if moment.trial.is_finite]
    # what stands out is drawn last, over the others
    moments = sorted(finite, key=lambda moment: moment.is_new_best)
    return AnytimeView(
        panels=tuple(
            Panel(
                side.title, side.bound_label,
                tuple(_draw(frame, side, moments, source.seconds) for frame in FRAMES),
            )
            for side in _sides(source, moments, quality)
        ),
        tips=tuple(_tip(moment, quality) for moment in moments),
        summary=_summary(source, quality),
        x_title=f"Time at work ({_unit(source.seconds)[1]})",
    )  # fmt: skip


def _sides(
    source: AnytimeSource, moments: Sequence[Moment], quality: QualityWords
) -> tuple[_Side, _Side]:
    contract, factor = source.contract, quality.drop_scale
    bounds = Bounds(contract.latency_ratio, contract.allowed_drop() * factor)
    places = [Point(m.trial.latency_ratio, m.trial.drop * factor, "outside") for m in moments]
    axes: Axes = front_axes([*places, Point(1.0, 0.0, "baseline")], bounds)
    return (
        _Side(
            title=drop_title(quality),
            bound_label=f"max_drop {max_drop_words(contract.max_drop, quality)}",
            bound=bounds.allowed,
            value=lambda found: found.drop * factor,
            scale=axes.y_scale,
            spell=plain_number,
        ),
        _Side(
            title="Latency, share of the baseline's",
            bound_label=f"budget {budget_words(contract)}",
            bound=bounds.budget,
            value=lambda found: found.latency_ratio,
            scale=lambda frame: Scale(axes.left, axes.right, *frame.y_range),
            spell=percent_number,
        ),
    )


def _draw(frame: Frame, side: _Side, moments: Sequence[Moment], seconds: float) -> PanelDrawing:
    y = side.scale(frame)
    unit, _ = _unit(seconds)
    x = Scale(0.0, max(seconds, _LEAST_SECONDS) / unit, *frame.x_range)
    in_time = sorted(moments, key=lambda moment: moment.seconds)
    steps = [
        (x(m.seconds / unit), y(side.value(m.best))) for m in in_time if m.best is not None
    ]  # fmt: skip
    return PanelDrawing(
        frame=frame,
        x_ticks=x.ticks(_TICKS_APART),
        y_ticks=y.ticks(28, side.spell),
        bound=y(side.bound) if y.shows(side.bound) else None,
        curve=_steps_path(steps, frame.x_range[1]),
        marks=tuple(
            Mark(
                x(moment.seconds / unit), y(side.value(moment.trial)),
                "front" if moment.is_new_best else "outside",
                not y.shows(side.value(moment.trial)),
            )
            for moment in moments
        ),
    )  # fmt: skip


def _steps_path(steps: Sequence[tuple[float, float]], end: float) -> str:
    """From the first answer on: level until the next one, then to that; to the right end."""
    if not steps:
        return ""
    first_x, first_y = steps[0]
    rest = "".join(f"H{x:g}V{y:g}" for x, y in steps[1:])
    return f"M{first_x:g} {first_y:g}{rest}H{end:g}"


def _unit(seconds: float) -> tuple[float, str]:
    return next((size, name) for least, size, name in _UNITS if seconds >= least)


def _tip(moment: Moment, quality: QualityWords) -> tuple[str, ...]:
    lines = (
        f"trial {moment.number}",
        f"after {duration(moment.seconds)}",
        *_words(moment, quality),
    )
    return (*lines, "the best so far") if moment.is_new_best else lines


def _words(moment: Moment, quality: QualityWords) -> tuple[str, str]:
    found = moment.trial
    return f"{share(found.latency_ratio)} of the baseline", f"drop {quality.drop(found.drop)}"


def _summary(source: AnytimeSource, quality: QualityWords) -> str:
    begin = f"{plural(len(source.moments), 'trial')} in {duration(source.seconds)} of work"
    answers = [moment for moment in source.moments if moment.is_new_best]
    if not answers:
        return f"{begin}; none meets the contract."
    last = answers[-1]
    return (
        f"{begin}. The best answer so far came after {duration(last.seconds)}: "
        f"{', '.join(_words(last, quality))}."
    )
