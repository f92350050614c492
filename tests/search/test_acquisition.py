"""Constrained expected improvement: hand-worked, and what it is there for."""

from __future__ import annotations

import math

import pytest

from autosparse.search.acquisition import (
    bound_of_turn,
    expected_improvement,
    probability_inside,
)
from autosparse.search.latency_predictor import Prediction

BOUND = 0.9


def predicted(ratio: float, half: float) -> Prediction:
    return Prediction(ratio, ratio - half, ratio + half)


def test_probabilities_are_those_of_the_normal_distribution() -> None:
    assert probability_inside(predicted(0.9, 0.1), BOUND) == pytest.approx(0.5)
    # the bound is the upper end of the 95 % interval: 2.5 % lie above it
    assert probability_inside(predicted(0.8, 0.1), BOUND) == pytest.approx(0.975, abs=1e-6)
    assert probability_inside(predicted(1.0, 0.1), BOUND) == pytest.approx(0.025, abs=1e-6)


def test_a_prediction_without_spread_is_inside_or_not() -> None:
    assert probability_inside(predicted(0.9, 0.0), BOUND) == 1.0
    assert probability_inside(predicted(0.91, 0.0), BOUND) == 0.0


def test_an_improvement_is_weighed_with_its_probability() -> None:
    assert expected_improvement(predicted(0.9, 0.1), 0.25, BOUND, best=1.0) == pytest.approx(0.375)
    assert expected_improvement(predicted(0.1, 0.0), 0.0, BOUND, best=1.0) == 1.0


def test_what_is_no_better_improves_nothing() -> None:
    assert expected_improvement(predicted(0.1, 0.0), 1.0, BOUND, best=1.0) == 0.0


def test_where_nothing_is_inside_yet_only_the_probability_counts() -> None:
    likely = expected_improvement(predicted(0.8, 0.1), 0.5, BOUND, best=math.inf)
    bold = expected_improvement(predicted(0.9, 0.1), 0.1, BOUND, best=math.inf)
    assert likely > bold


def test_an_answer_is_banked_before_the_bound_is_reached_for() -> None:
    bold, sure = predicted(0.898, 0.02), predicted(0.875, 0.02)
    plain = 1.2e-2  # divergence of what was measured inside so far
    assert expected_improvement(sure, 2.5e-4, BOUND, plain) > expected_improvement(
        bold, 1.3e-4, BOUND, plain
    )
    banked = 2.5e-4
    assert expected_improvement(bold, 1.3e-4, BOUND, banked) > 0.2


def test_every_other_turn_is_for_the_contracts_bound() -> None:
    assert [bound_of_turn(number, 0.4, BOUND) for number in (0, 2, 14)] == [BOUND] * 3


def test_the_other_turns_fill_the_range_below_it_evenly() -> None:
    found = [bound_of_turn(number, 0.4, 0.8) for number in (1, 3, 5, 7, 9, 11, 13)]
    assert found == pytest.approx([0.6, 0.5, 0.7, 0.45, 0.65, 0.55, 0.75])


def test_nothing_below_what_was_fastest_is_aimed_at() -> None:
    assert bound_of_turn(1, 0.9, 0.8) == 0.8
