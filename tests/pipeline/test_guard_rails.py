"""What an average hides is told by row and by class."""

from __future__ import annotations

import numpy as np
import pytest

from autosparse.datasets import Dataset, halves
from autosparse.evaluation.metrics import Floats, Outputs
from autosparse.evaluation.scores import Array
from autosparse.pipeline.guard_rails import BothAnswers, guard_rails


@pytest.mark.checks("agreement with the dense model")
def test_rows_that_changed_are_named_the_surest_first() -> None:
    dense = np.array([[5.0, 0, 0], [0, 2.0, 0], [0, 0, 3.0], [4.0, 0, 0]])
    delivered = np.array([[5.0, 0, 0], [2.0, 0, 0], [0, 3.0, 0], [4.0, 0, 0]])
    data = Dataset({"x": np.zeros((4, 1))}, np.array([0, 1, 1, 0]))
    rails = guard_rails(_both(delivered, dense), data, np.array([2, 5, 7, 11]))
    assert rails is not None
    assert rails.agreement == 0.5
    assert (rails.fixed_rows, rails.broken_rows, rails.changed_rows) == (1, 1, 2)
    assert [(c.row, c.label, c.dense, c.delivered) for c in rails.changed] == [
        (7, 1, 2, 1),
        (5, 1, 1, 0),
    ]
    assert rails.changed[0].sureness > rails.changed[1].sureness


@pytest.mark.checks("accuracy of each class")
def test_a_small_class_that_is_lost_is_seen_although_the_mean_passes() -> None:
    """A tenth of the rows of one class: three quarters of them gone, and the mean hardly moves."""
    labels = np.repeat([0, 1, 2], [200, 200, 20])
    dense = np.eye(3)[labels] * 4.0
    delivered = dense.copy()
    delivered[400:415] = [4.0, 0.0, 0.0]
    data = Dataset({"x": np.zeros((420, 1))}, labels)
    rails = guard_rails(_both(delivered, dense), data, np.arange(420))
    assert rails is not None
    assert rails.agreement > 0.96
    worst = min(rails.classes, key=lambda c: c.delivered - c.baseline)
    assert (worst.label, worst.delivered) == (2, 0.25)
    assert all(found.label == 2 for found in rails.changed)


@pytest.mark.checks("calibration error")
def test_confidence_is_compared() -> None:
    draw = np.random.default_rng(1)
    dense = draw.standard_normal((400, 3))
    chances = np.exp(dense) / np.exp(dense).sum(axis=1, keepdims=True)
    labels = np.array([draw.choice(3, p=row) for row in chances])
    data = Dataset({"x": np.zeros((400, 1))}, labels)
    rails = guard_rails(_both(6 * dense, dense), data, np.arange(400))
    assert rails is not None
    assert rails.confidence is not None
    assert rails.agreement == 1.0
    assert rails.confidence.delivered > rails.confidence.baseline
    assert rails.confidence.scaled < rails.confidence.delivered
    assert rails.confidence.temperature > 2.0


def test_halves_are_those_that_a_dataset_is_split_into() -> None:
    data = Dataset({"x": np.arange(21)[:, None]})
    both = zip(data.split(3), halves(21, 3), strict=True)
    assert all(np.array_equal(half.inputs["x"][:, 0], numbers) for half, numbers in both)


def _both(delivered: Floats, dense: Floats) -> BothAnswers:
    return BothAnswers(Outputs({"y": delivered}), Outputs({"y": dense}))


@pytest.mark.parametrize("labels", [np.array([0.5, 1.5]), np.array([[0], [1]])])
def test_rows_without_a_class_have_no_rails(labels: Array) -> None:
    data = Dataset({"x": np.zeros((2, 1))}, labels)
    assert guard_rails(_both(np.eye(2), np.eye(2)), data, np.arange(2)) is None
