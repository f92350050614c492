from __future__ import annotations

import itertools
from typing import Any

import pytest

from autosparse.artifacts.chart_scales import Frame, Scale
from autosparse.artifacts.front_chart import (
    Axes,
    Bounds,
    Point,
    draw_front,
    front_axes,
    pareto_front,
)
from autosparse.artifacts.report_data import TrialPoint
from autosparse.evaluation import Interval

FRAME = Frame(width=1000, height=400)
CONTRACT = Bounds(budget=0.6, allowed=1.0)


def trial(recipe_id: str, ratio: float, drop: float) -> TrialPoint:
    return TrialPoint(
        recipe_id=recipe_id, proposed_by="tpe", latency_seconds=ratio, latency_ratio=ratio,
        drop=drop, drop_interval=Interval(low=drop, high=drop), divergence=drop,
        compressed_layers=1, deliverable=False,
    )  # fmt: skip


def ids(*trials: TrialPoint) -> list[str]:
    return [t.recipe_id for t in pareto_front(trials)]


def test_the_front_keeps_what_nothing_beats() -> None:
    a, b, c = trial("a", 0.4, 0.3), trial("b", 0.5, 0.1), trial("c", 0.6, 0.2)
    assert ids(c, b, a) == ["a", "b"]


def test_of_equal_trials_one_is_on_the_front() -> None:
    assert ids(trial("a", 0.4, 0.1), trial("b", 0.4, 0.1)) == ["a"]


def test_the_baseline_beats_what_is_slower_and_no_better() -> None:
    assert ids(trial("slow", 1.1, 0.0), trial("better", 1.1, -0.01)) == ["better"]


def test_no_trials_have_no_front() -> None:
    assert ids() == []


@pytest.mark.parametrize("kind", ["linear", "log", "symlog"])
def test_a_scale_keeps_its_ends_and_order(kind: Any) -> None:
    scale = Scale(0.5, 200.0, 50.0, 950.0, kind=kind)
    pixels = [scale(v) for v in (0.5, 1, 2, 30, 200)]
    assert pixels[0] == 50.0
    assert pixels[-1] == 950.0
    assert pixels == sorted(pixels)


def test_values_beyond_a_scale_are_drawn_at_its_edge() -> None:
    scale = Scale(0.0, 1.0, 0.0, 100.0)
    assert (scale(-5.0), scale(1e300)) == (0.0, 100.0)
    assert not scale.shows(1.01)


def test_a_symlog_scale_is_the_same_on_both_sides_of_zero() -> None:
    scale = Scale(-100.0, 100.0, -50.0, 50.0, kind="symlog", linear_up_to=1.0)
    assert scale(0.0) == 0.0
    assert scale(-20.0) == -scale(20.0)


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0.0, 1.0, "linear"), (-0.3, 95.0, "symlog"), (0.001, 5000.0, "log"), (0.99, 1.01, "linear")],
)
def test_ticks_are_round_apart_and_inside(low: float, high: float, kind: Any) -> None:
    scale = Scale(low, high, 0.0, 500.0, kind=kind)
    ticks = scale.ticks(40)
    assert len(ticks) >= 2
    places = [t.at for t in ticks]
    assert all(b - a >= 40 for a, b in itertools.pairwise(places))
    assert all(0.0 <= at <= 500.0 for at in places)
    assert all(len(t.label) <= 7 for t in ticks)


def axes_of(*places: tuple[float, float], bounds: Bounds = CONTRACT) -> Axes:
    return front_axes([Point(r, d, "outside") for r, d in (*places, (1.0, 0.0))], bounds)


@pytest.mark.parametrize(
    "places",
    [
        (),
        ((1.0, 0.0),),
        ((0.5, 0.2),) * 2000,
        ((0.5, -3.0), (0.6, -1.0)),
        ((0.4, 1e-9), (0.5, 1e30), (1e9, 0.1)),
        ((0.001, 90.0),),
    ],
    ids=["none", "as the baseline", "identical", "all better", "outliers", "extremely fast"],
)
@pytest.mark.parametrize("allowed", [0.0, 1.0, 500.0])
@pytest.mark.parametrize("budget", [0.01, 0.6, 12.0])
def test_the_plot_survives(places: Any, allowed: float, budget: float) -> None:
    bounds = Bounds(budget=budget, allowed=allowed)
    axes = axes_of(*places, bounds=bounds)
    assert axes.left < axes.right
    assert axes.bottom < 0.0 < axes.top
    points = [Point(r, d, "outside") for r, d in (*places, (1.0, 0.0))]
    drawing = draw_front(FRAME, axes, points, [(r, d) for r, d in places][:1], bounds)
    assert len(drawing.marks) == len(points)
    assert all(
        FRAME.left <= m.x <= FRAME.width - FRAME.right
        and FRAME.top <= m.y <= FRAME.height - FRAME.bottom
        for m in drawing.marks
    )
    assert drawing.x_ticks
    assert drawing.y_ticks


def test_one_outlier_does_not_squeeze_the_others() -> None:
    axes = axes_of(*((0.5, 0.2),) * 30, (50.0, 0.1))
    assert axes.right < 2.0
    assert axes.x_scale(FRAME)(0.5) < 500


def test_small_drops_stay_apart_beside_huge_ones() -> None:
    y = axes_of((0.3, 90.0), (0.5, 0.1), (0.55, 0.9)).y_scale(FRAME)
    assert y(0.1) - y(0.9) > 50


def test_marks_beyond_the_axes_are_marked_so() -> None:
    points = [Point(0.5, 0.2, "inside"), Point(90.0, 0.2, "outside"), Point(1.0, 0.0, "baseline")]
    axes = front_axes([*points, *[Point(0.6, 0.3, "outside")] * 20], CONTRACT)
    drawing = draw_front(FRAME, axes, points, [], CONTRACT)
    assert [m.beyond for m in drawing.marks] == [False, True, False]


def test_labels_of_neighbours_do_not_overlap() -> None:
    points = [
        Point(0.5, 0.2, "int8", "plain INT8"),
        Point(0.5, 0.2, "delivered", "delivered"),
        Point(1.0, 0.0, "baseline", "baseline"),
    ]
    drawing = draw_front(FRAME, front_axes(points, CONTRACT), points, [], CONTRACT)
    places = {(label.anchor, label.y) for label in drawing.labels if label.text != "baseline"}
    assert len(places) == 2
