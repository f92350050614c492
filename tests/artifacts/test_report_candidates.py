"""The plot of candidates: every rung, beside what was measured, however many there are."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from autosparse.artifacts.candidates_chart import MOST_MARKS, candidate_axes, thinned
from autosparse.artifacts.front_chart import Point
from autosparse.artifacts.report import render_report
from autosparse.artifacts.report_data import CandidatePoint
from tests.artifacts.report_example import Page, data_scripts, manifest, report_data, text_of

HEADING = "Every candidate, by how far it came"
_BYTES_FOR_CANDIDATES = 500_000


def candidate(
    number: int, rung: Any = "sampled", ratio: float = 0.7, divergence: float = 0.02, **more: Any
) -> CandidatePoint:
    return CandidatePoint(
        recipe_id=f"{number:012x}", rung=rung, predicted_ratio=ratio, divergence=divergence, **more
    )


def crowd(count: int, seed: int = 0) -> tuple[CandidatePoint, ...]:
    rng = random.Random(seed)
    return tuple(
        candidate(
            number, rng.choice(["screened", "sampled"]), rng.uniform(0.3, 1.2),
            10 ** rng.uniform(-5, 1),
        )
        for number in range(count)
    )  # fmt: skip


def tips(html: str) -> list[list[str]]:
    """Of the plot of candidates."""
    texts = [json.loads(text) for text in data_scripts(Page(html))]
    return next(lines for lines in texts if any("rung: " in "".join(tip) for tip in lines))


def test_every_rung_is_told_apart_from_the_trials() -> None:
    candidates = (
        candidate(1, "screened", 0.75, 0.4, reason="predicted at 75.0% of the baseline"),
        candidate(2, "sampled", 0.55, 0.031),
    )
    html = render_report(report_data(candidates=candidates))
    assert f"{HEADING} 1 candidate screened by prediction, 1 run on a few rows" in text_of(html)
    assert "run on a few rows screened by prediction, never run" in text_of(html)  # the legend
    screened, sampled, *measured, baseline = tips(html)
    assert screened == [
        "recipe 000000000001", "rung: screened, never run",
        "latency: 75.0\N{NO-BREAK SPACE}% of the baseline, predicted",
        "divergence 0.400 by the sum of its layers'", "predicted at 75.0% of the baseline",
    ]  # fmt: skip
    assert sampled[1] == "rung: run on a few rows, not measured"
    assert sampled[3] == "divergence 0.0310 on those rows"
    assert [tip[1] for tip in measured] == ["rung: measured, a trial proposed by tpe"] * 4
    assert baseline[0] == "baseline"


def test_tips_belong_to_the_marks_of_both_drawings() -> None:
    html = render_report(report_data(candidates=crowd(50)))
    _, _, section = html.partition('id="candidates"')
    plot, _, _ = section.partition("</figure>")
    uses = plot.partition("</ul>")[2].count("<use ")
    assert uses == 2 * len(tips(html))


def test_without_candidates_there_is_no_such_plot() -> None:
    assert HEADING not in text_of(render_report(report_data()))


def test_what_failed_or_has_no_number_is_counted() -> None:
    search = manifest().search.model_copy(update={"failed": 3})
    given = (candidate(1), candidate(2, divergence=float("inf")))
    html = render_report(report_data(manifest=manifest(search=search), candidates=given))
    text = text_of(html)
    assert "1 candidate without finite numbers left out." in text
    assert "3 candidates could not be lowered, run or timed, and have no place here." in text
    assert len(tips(html)) == 1 + 4 + 1


def test_few_candidates_are_all_drawn() -> None:
    spread = tuple(candidate(i, ratio=0.4 + 0.02 * i, divergence=1.3**-i) for i in range(30))
    html = render_report(report_data(candidates=spread))
    assert len(tips(html)) == 30 + 4 + 1
    assert "stand for" not in text_of(html)


def test_ten_thousand_candidates_swell_the_file_by_little() -> None:
    html = render_report(report_data(candidates=crowd(10_000)))
    assert len(html) - len(render_report(report_data())) < _BYTES_FOR_CANDIDATES
    assert "marks stand for 10,000 candidates" in text_of(html)
    assert sum("stands for" in tip[-1] for tip in tips(html)) > MOST_MARKS / 2


@pytest.mark.parametrize("count", [1, 1000, 10_000])
def test_every_candidate_is_stood_for_and_the_best_is_drawn(count: int) -> None:
    candidates = crowd(count)
    points = [Point(c.predicted_ratio, c.divergence, c.rung) for c in candidates]
    axes = candidate_axes([*points, Point(1.0, 0.0, "baseline")], budget=0.6)
    drawn = thinned(candidates, axes)
    assert len(drawn) <= MOST_MARKS
    assert sum(one.stands_for for one in drawn) == count
    best = min(candidates, key=lambda c: c.divergence)
    assert best in [one.candidate for one in drawn]


def test_equal_candidates_are_one_mark() -> None:
    same = tuple(candidate(number) for number in range(5))
    axes = candidate_axes([Point(0.7, 0.02, "sampled"), Point(1.0, 0.0, "baseline")], budget=0.6)
    (drawn,) = thinned(same, axes)
    assert (drawn.candidate.recipe_id, drawn.stands_for) == ("000000000000", 5)


@pytest.mark.parametrize("divergences", [(0.0,), (-1e-9, 0.0), (1e-9, 1e9), (0.5, 0.5)])
def test_the_axes_survive(divergences: tuple[float, ...]) -> None:
    points = [Point(0.7, divergence, "sampled") for divergence in divergences]
    axes = candidate_axes([*points, Point(1.0, 0.0, "baseline")], budget=0.6)
    assert axes.bottom < 0.0 < axes.linear_up_to <= axes.top
