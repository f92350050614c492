"""The anytime curve: steps at the trials that became the best answer, and nowhere else."""

from __future__ import annotations

import re

import pytest

from autosparse.artifacts.anytime_chart import (
    FRAMES,
    AnytimeSource,
    Found,
    Moment,
    anytime_view,
    render_anytime,
)
from autosparse.evaluation import Contract

CONTRACT = Contract.model_validate(
    {"budget": "60%", "percentile": "p50", "max_drop": "1pt", "strict": False,
     "baseline_seconds": 1e-3, "baseline_quality": 0.9}
)  # fmt: skip
FIRST, SECOND = Found(0.008, 0.55), Found(0.002, 0.58)
MISSES = Found(0.4, 0.3)
MOMENTS = (
    Moment(10.0, 1, MISSES, None, is_new_best=False),
    Moment(20.0, 2, FIRST, FIRST, is_new_best=True),
    Moment(40.0, 3, MISSES, FIRST, is_new_best=False),
    Moment(60.0, 4, SECOND, SECOND, is_new_best=True),
)


def source(*moments: Moment, metric: str = "top1", seconds: float = 100.0) -> AnytimeSource:
    return AnytimeSource(moments, seconds, CONTRACT, metric)


def numbers(path: str) -> list[float]:
    return [float(found) for found in re.findall(r"[\d.]+", path)]


def test_the_curve_steps_where_a_better_answer_came() -> None:
    for panel in anytime_view(source(*MOMENTS)).panels:
        for drawing, frame in zip(panel.drawings, FRAMES, strict=True):
            by_time = {round(mark.x): mark for mark in drawing.marks if mark.kind == "front"}
            first, second = (by_time[x] for x in sorted(by_time))
            start_x, start_y, _, still_y, turn_x, turn_y, end = numbers(drawing.curve)
            assert (start_x, start_y) == (first.x, first.y)
            assert still_y == first.y, "a trial that is no better moves nothing"
            assert (turn_x, turn_y) == (second.x, second.y)
            assert end == frame.x_range[1]


def test_time_and_quality_are_where_the_axes_say() -> None:
    drop, latency = anytime_view(source(*MOMENTS)).panels
    wide = FRAMES[0]
    left, right = wide.x_range
    places = {mark.x for mark in drop.drawings[0].marks}
    assert {round(left + (right - left) * t / 100) for t in (10, 20, 40, 60)} == set(
        map(round, places)
    )
    ring = [mark for mark in latency.drawings[0].marks if mark.kind == "front"]
    bound = latency.drawings[0].bound
    assert bound is not None
    assert all(mark.y > bound for mark in ring), "inside the budget is below it"
    assert drop.title == "Drop of accuracy (points)"


def test_without_an_answer_there_are_trials_and_no_curve() -> None:
    view = anytime_view(source(MOMENTS[0]))
    assert "none meets the contract" in view.summary
    assert [drawing.curve for panel in view.panels for drawing in panel.drawings] == [""] * 4
    assert [len(panel.drawings[0].marks) for panel in view.panels] == [1, 1]


@pytest.mark.parametrize(
    ("seconds", "unit"), [(0.0, "s"), (119.0, "s"), (120.0, "min"), (2e4, "h")]
)
def test_time_is_told_in_a_unit_that_reads_well(seconds: float, unit: str) -> None:
    view = anytime_view(source(*MOMENTS, seconds=seconds))
    assert view.x_title == f"Time at work ({unit})"
    labels = [tick.label for tick in view.panels[0].drawings[0].x_ticks]
    assert all(float(label) <= max(seconds, 1.0) for label in labels)


def test_what_is_no_number_is_left_out_and_what_stands_out_is_on_top() -> None:
    nowhere = Moment(5.0, 9, Found(float("nan"), float("inf")), None, is_new_best=False)
    view = anytime_view(source(nowhere, *MOMENTS))
    assert [tip[0] for tip in view.tips] == ["trial 1", "trial 3", "trial 2", "trial 4"]
    assert view.tips[-1][-1] == "the best so far"


def test_names_of_metrics_are_only_text() -> None:
    page = render_anytime(source(*MOMENTS, metric="<script>alert(1)</script>"))
    assert "<script>alert" not in page
    assert page.count('class="plot"') == 2
