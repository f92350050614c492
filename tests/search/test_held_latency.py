"""What is held against the latency bound: estimates, or with `--strict` the ends of intervals."""

from __future__ import annotations

import pytest

from autosparse.evaluation.quiet_state import is_same_state
from autosparse.search.held_latency import HeldLatency
from autosparse.search.latency_predictor import Prediction

PREDICTED = Prediction(0.5, 0.48, 0.52)


def test_estimates_are_held_as_they_are() -> None:
    latency = HeldLatency(0.6)
    latency.measured("a", 0.5, 0.55)
    assert latency.known("a") == 0.5
    assert latency.of(PREDICTED) == PREDICTED
    assert latency.largest_estimate == 0.6


def test_strict_holds_the_end_of_the_interval() -> None:
    latency = HeldLatency(0.6, strict=True)
    latency.measured("a", 0.5, 0.55)
    assert latency.known("a") == 0.55
    assert latency.known("b") is None


def test_with_nothing_measured_a_prediction_is_all_there_is() -> None:
    latency = HeldLatency(0.6, strict=True)
    assert latency.of(PREDICTED) == PREDICTED
    assert latency.largest_estimate == 0.6


def test_what_measurements_added_is_expected_of_the_next_one() -> None:
    """The median: one run on a disturbed machine does not move the aim."""
    latency = HeldLatency(0.6, strict=True)
    for number, over in enumerate((1.02, 1.04, 3.0)):
        latency.measured(str(number), 0.5, 0.5 * over)
    expected = latency.of(PREDICTED)
    assert expected.ratio == pytest.approx(0.52)
    assert (expected.low, expected.high) == pytest.approx((0.4992, 0.5408))
    assert latency.largest_estimate == pytest.approx(0.6 / 1.04)


def test_what_a_verification_refutes_shifts_what_is_as_fast() -> None:
    latency = HeldLatency(0.6)
    latency.measured("a", 0.59, 0.59)
    latency.measured("b", 0.58, 0.6)
    latency.refuted("a", 0.59, 0.6195)
    assert latency.known("a") == 0.6195
    assert latency.known("b") == pytest.approx(0.58 * 1.05)
    assert latency.least == pytest.approx(0.58 * 1.05)
    assert latency.of(PREDICTED).ratio == pytest.approx(0.5 * 1.05)
    assert latency.largest_estimate == pytest.approx(0.6 / 1.05)


def test_a_verification_that_was_disturbed_itself_does_not_move_the_aim() -> None:
    latency = HeldLatency(0.6)
    for number, shift in enumerate((1.02, 1.04, 3.0)):
        latency.measured(str(number), 0.55, 0.55)
        latency.refuted(str(number), 0.55, 0.55 * shift)
    assert latency.shift() == pytest.approx(1.04)


def test_a_trial_that_was_lucky_says_little_of_the_others() -> None:
    """Its interval was wide: that it came out later says more of it than of the machine."""
    shifts = []
    for high in (0.55, 0.56, 0.58, 0.65):
        latency = HeldLatency(0.6)
        latency.measured("lucky", 0.55, high)
        latency.refuted("lucky", 0.55, 0.605)
        assert latency.known("lucky") == 0.605
        shifts.append(latency.shift())
    assert shifts[0] == pytest.approx(1.1)
    assert shifts == sorted(shifts, reverse=True)
    assert shifts[-1] < 1.01


def test_a_shift_is_that_of_one_state_of_the_machine() -> None:
    """What was timed while vector units were slower is not held to what refuted the others."""
    latency = HeldLatency(0.6, same_state=is_same_state)
    latency.measured("fast", 0.59, 0.59, vector_pace=3.2)
    latency.measured("as fast", 0.58, 0.59, vector_pace=3.25)
    latency.measured("slow", 0.58, 0.59, vector_pace=4.9)
    latency.measured("unknown", 0.58, 0.59)
    latency.refuted("fast", 0.59, 0.649)
    assert latency.known("as fast") == pytest.approx(0.58 * 1.1)
    assert latency.known("slow") == 0.58
    assert latency.known("unknown") == pytest.approx(0.58 * 1.1)
