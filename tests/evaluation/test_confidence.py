"""How sure a model is beside how often it is right."""

from __future__ import annotations

import numpy as np
import pytest

from autosparse.evaluation.confidence import (
    best_temperature,
    calibration_error,
    log_probabilities,
)


def test_a_calibration_error_by_hand() -> None:
    """Two rows that are 0.9 sure, one of them right, and two that are 0.6 sure, both right."""
    given = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    found = calibration_error(np.log(given), np.array([0, 1, 0, 0]))
    assert found == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)


def test_logits_and_probabilities_are_told_apart() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 5.0]])
    known = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(log_probabilities(logits), np.log(known))
    assert np.allclose(log_probabilities(known), np.log(known))
    assert np.isfinite(log_probabilities(np.array([[1.0, 0.0]]))).all()


@pytest.mark.checks("calibration error")
def test_a_model_that_is_too_sure_is_found_out_and_a_temperature_restores_it() -> None:
    """Labels are drawn from the logits' own probabilities; then the logits are tripled."""
    draw = np.random.default_rng(0)
    logits = draw.standard_normal((4000, 5))
    chances = np.exp(log_probabilities(logits))
    labels = np.array([draw.choice(5, p=row) for row in chances])
    sure = log_probabilities(3 * logits)
    assert calibration_error(log_probabilities(logits), labels) < 0.03
    assert calibration_error(sure, labels) > 0.2
    temperature = best_temperature(sure, labels)
    assert temperature == pytest.approx(3.0, rel=0.1)
    assert calibration_error(log_probabilities(sure / temperature), labels) < 0.03
