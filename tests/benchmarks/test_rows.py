"""The schema of a row, and what a whole run comes to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from benchmarks.rows import Row, all_hold, failed_row, ratio_of, skipped_row


def test_a_row_has_the_published_fields() -> None:
    assert list(Row.model_fields) == [
        "what", "figure", "unit", "opponent", "opponent_figure", "ratio", "bar", "holds",
        "environment", "note",
    ]  # fmt: skip


def test_a_row_names_its_environment() -> None:
    with pytest.raises(ValidationError, match="environment"):
        Row.model_validate({"what": "latency", "figure": 1.0})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["figure", "opponent_figure", "ratio"])
def test_a_figure_is_a_finite_number(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Row.model_validate({"what": "latency", "environment": "e", field: value})


def test_a_row_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="speed"):
        Row.model_validate({"what": "latency", "environment": "e", "speed": 1.0})


def test_a_failure_does_not_hold_and_says_why() -> None:
    row = failed_row("model at 60%", "the runtime crashed", "e")
    assert (row.holds, row.figure, row.note) == (False, None, "the runtime crashed")


def test_what_is_skipped_is_said_and_holds_nothing() -> None:
    row = skipped_row("model", "its file is missing", "e")
    assert row.holds is None
    assert row.note == "skipped: its file is missing"


def test_a_run_holds_unless_a_bar_is_missed() -> None:
    report, met = Row(what="a", environment="e"), Row(what="b", holds=True, environment="e")
    assert all_hold([report, met])
    assert not all_hold([report, met, failed_row("c", "", "e")])


def test_the_ratio_to_nothing_is_absent() -> None:
    assert ratio_of(1.0, 4.0) == 0.25
    assert ratio_of(1.0, 0.0) is None
