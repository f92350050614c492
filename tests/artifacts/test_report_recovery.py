"""What the report says of a recovery training."""

from __future__ import annotations

from typing import Any

import pytest

from autosparse.artifacts.report import render_report
from autosparse.artifacts.report_data import RecoveryReport, RecoverySide, TrainedRecipe
from tests.artifacts.report_example import DELIVERED, Page, quality, report_data, text_of


def side(recipe_id: str, drop: float) -> RecoverySide:
    return RecoverySide(
        recipe_id=recipe_id, quality=quality(drop=drop), latency_ratio=0.4, divergence=drop
    )


def report(**changes: Any) -> RecoveryReport:
    fields: dict[str, Any] = {
        "method": "fine_tune", "zeros_kept": True, "labels_learned": False,
        "before": side("5" * 12, 0.031), "after": side(DELIVERED, 0.006), "delivered": True,
        "steps": 1250, "seconds": 600.0, "end": "time", "arithmetic": "bf16",
        "curve": ((10, 3.0, 2.0), (600, 1.0, float("nan")), (1250, 0.5, 0.25)),
        "compared": (TrainedRecipe(recipe_id="5" * 12, before=2.1, after=0.9, steps=60),),
    }  # fmt: skip
    return RecoveryReport(**{**fields, **changes})


def test_before_and_after_stand_side_by_side() -> None:
    text = text_of(render_report(report_data(recovery=report())))
    assert "accuracy 85.4 % before, 87.9 % after. It is the delivered file." in text
    assert "before 555555555555 85.4 % 3.1 points 2.6 to 3.6 points 40.0 %" in text
    assert f"after {DELIVERED} 87.9 % 0.6 points 0.1 to 1.1 points 40.0 %" in text
    assert "Steps 1,250 Time 10 min It ended because its time was up Arithmetic bf16" in text
    assert "555555555555: divergence 2.1, after 60 steps 0.9" in text


def test_the_curve_is_drawn_where_it_is_a_number() -> None:
    html = render_report(report_data(recovery=report()))
    assert "Divergence on rows held out" in text_of(html)
    wide, narrow = [d for d in Page(html).attributes("d") if d.count("L") == 1]
    assert wide.startswith("M")
    assert narrow != wide


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"delivered": False}, "Another file is delivered."),
        ({}, "trained with the dense model as teacher, its zeros kept where they were: accuracy"),
        ({"zeros_kept": False}, "teacher, its zeros chosen anew, no fewer than before: accuracy"),
        ({"labels_learned": True}, "trained with the dense model and the labels as teacher, its"),
        ({"after": None}, "the file that came of it could not be measured"),
        ({"end": "diverged"}, "it diverged; what came before is kept"),
        ({"curve": ()}, "Divergence on rows held out"),
    ],
)
def test_what_went_otherwise_is_told(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in text_of(render_report(report_data(recovery=report(**changes))))


def test_without_a_training_there_is_no_section() -> None:
    html = render_report(report_data())
    assert "recovery" not in Page(html).attributes("id")
    assert "#recovery" not in Page(html).attributes("href")
