"""Budgets and allowed drops: what they mean, what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autosparse.errors import ConfigError
from autosparse.evaluation import Budget, MaxDrop

amounts = st.floats(min_value=1e-12, max_value=1e12)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8ms", 8e-3),
        ("0.25ms", 0.25e-3),
        ("250us", 250e-6),
        ("250µs", 250e-6),
        ("1500000ns", 1.5e-3),
        ("2s", 2.0),
        (" 8 ms ", 8e-3),
        ("60%", 0.006),
        ("12.5 %", 0.00125),
        ("200%", 0.02),
    ],
)
def test_a_budget_is_a_time_or_a_share_of_the_baseline(text: str, seconds: float) -> None:
    budget = Budget.parse(text)
    assert budget.seconds(baseline_seconds=0.010) == pytest.approx(seconds)
    assert budget.is_relative == ("%" in text)


@pytest.mark.parametrize(
    "text",
    ["0%", "0ms", "0.0us", "-3ms", "-60%", f"{'9' * 400}ms"],
)
def test_a_budget_that_nothing_can_meet_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be met") as caught:
        Budget.parse(text)
    assert caught.value.hint == "give one above zero"


@pytest.mark.parametrize(
    "text",
    ["", "fast", "8", "ms", "8 parsecs", "8MS", "8m", "8min", "nan", "nanms", "infms", "1e3ms",
     "8ms 9ms", "8,5ms", "%", "8%%", "+8ms", "8ms\n9", "None"],
)  # fmt: skip
def test_what_is_no_budget_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError, match="is no latency budget") as caught:
        Budget.parse(text)
    assert "8ms" in caught.value.hint
    assert "60%" in caught.value.hint


@pytest.mark.parametrize("given_value", [8, 0.5, True])
def test_a_bare_number_in_a_file_is_refused_like_its_spelling(given_value: float) -> None:
    with pytest.raises(ConfigError, match="is no latency budget"):
        Budget.model_validate(given_value)


@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("unit", ["%", "ms"])
def test_fields_are_checked_like_spellings(amount: float, unit: str) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate({"amount": amount, "unit": unit})


@given(amounts, st.sampled_from(["%", "ns", "us", "µs", "ms", "s"]))
def test_every_budget_reads_back(amount: float, unit: str) -> None:
    budget = Budget.model_validate({"amount": amount, "unit": unit})
    assert Budget.parse(str(budget)) == budget
    assert Budget.model_validate_json(budget.model_dump_json()) == budget


@pytest.mark.parametrize(
    ("text", "allowance"),
    [
        ("0.5pt", 0.005),
        ("1 pt", 0.01),
        ("1%", 0.0085),
        ("0.01", 0.01),
        ("1e-3", 1e-3),
        ("0", 0.0),
        ("0pt", 0.0),
        ("2", 2.0),
    ],
)
def test_a_drop_is_in_points_relative_or_in_the_metrics_unit(text: str, allowance: float) -> None:
    assert MaxDrop.parse(text).allowance(baseline_value=0.85) == pytest.approx(allowance)


def test_a_relative_drop_of_a_negative_metric_is_still_allowed() -> None:
    assert MaxDrop.parse("10%").allowance(-2.0) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "text",
    ["", "none", "-0.5pt", "-1", "1pp", "1 point", "nan", "inf", "1e400", "0.5pt%", "pt", "1,5pt"],
)
def test_what_is_no_drop_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError, match="is no allowed drop") as caught:
        MaxDrop.parse(text)
    assert "0.5pt" in caught.value.hint


@pytest.mark.parametrize("given_value", [0.01, 2, "0.01"])
def test_a_drop_in_a_file_may_be_a_bare_number(given_value: object) -> None:
    drop = MaxDrop.model_validate(given_value)
    assert drop.unit == ""
    assert drop.amount == float(str(given_value))


@pytest.mark.parametrize("amount", [-0.1, float("nan"), float("inf")])
def test_fields_of_a_drop_are_checked_like_spellings(amount: float) -> None:
    with pytest.raises(ValidationError):
        MaxDrop.model_validate({"amount": amount, "unit": "pt"})


@given(st.just(0.0) | amounts, st.sampled_from(["pt", "%", ""]))
def test_every_drop_reads_back(amount: float, unit: str) -> None:
    drop = MaxDrop.model_validate({"amount": amount, "unit": unit})
    assert MaxDrop.parse(str(drop)) == drop
    assert MaxDrop.model_validate_json(drop.model_dump_json()) == drop
