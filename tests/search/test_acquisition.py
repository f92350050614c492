"""Constrained expected improvement: hand-worked, and what it is there for."""

from __future__ import annotations

import math

import pytest

from autosparse.search.acquisition import expected_improvement, probability_inside
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
