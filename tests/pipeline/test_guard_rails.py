"""What an average hides is told by row and by class."""

from __future__ import annotations

import numpy as np
import pytest

from autosparse.datasets import Dataset, halves
from autosparse.evaluation.metrics import BUILT_IN, Floats, Outputs
from autosparse.evaluation.scores import Array
from autosparse.pipeline import guard_rails as rails_module
from autosparse.pipeline.guard_rails import BothAnswers, guard_rails, why_no_choice

LABELS = np.array([0, 1])
CLASSES = np.eye(3)[:2]


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


def test_agreement_needs_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are looked at together."""
    dense = np.array([[5.0, 0, 0], [0, 2.0, 0], [0, 0, 3.0], [4.0, 0, 0], [0, 1.0, 0]])
    delivered = np.array([[5.0, 0, 0], [2.0, 0, 0], [0, 3.0, 0], [4.0, 0, 0], [0, 9.0, 0]])
    data = Dataset({"x": np.zeros((5, 1))}, None)
    monkeypatch.setattr(rails_module, "_AT_ONCE", 2 * 3)
    rails = guard_rails(_both(delivered, dense), data, np.array([2, 5, 7, 11, 12]))
    assert rails is not None
    assert (rails.agreement, rails.changed_rows) == (0.6, 2)
    assert [(c.row, c.label, c.dense, c.delivered) for c in rails.changed] == [
        (7, None, 2, 1),
        (5, None, 1, 0),
    ]
    assert (rails.fixed_rows, rails.broken_rows, rails.classes) == (None, None, ())
    assert rails.confidence is None


def _why(
    name: str, values: Array, labels: Array | None = None, metric: str = "relative_error"
) -> str:
    data = Dataset({"x": np.zeros((2, 1))}, labels)
    return why_no_choice(Outputs({name: values}), data, BUILT_IN[metric])


@pytest.mark.parametrize(
    ("name", "values", "labels", "metric"),
    [
        ("y", CLASSES - 0.5, LABELS, "top1"),
        ("y", (CLASSES - 0.5)[:, :, None, None], LABELS, "top1"),
        ("y", CLASSES - 0.5, None, "kl"),
        ("Logits:0", CLASSES - 0.5, None, "relative_error"),
        ("y", CLASSES, None, "relative_error"),  # probabilities
    ],
)
def test_an_answer_that_is_one_choice_is_known(
    name: str, values: Array, labels: Array | None, metric: str
) -> None:
    assert _why(name, values, labels, metric) == ""


@pytest.mark.parametrize(
    ("values", "labels", "metric", "why"),
    [
        (CLASSES, np.array([0.5, 1.5]), "rmse", "answers are numbers, judged by rmse"),
        (CLASSES, LABELS, "mae", "answers are numbers, judged by mae"),
        (CLASSES, np.array([0.5, 1.5]), "kl", "the labels are float64 values"),
        (CLASSES, LABELS[:, None], "kl", "the labels have the shape (2, 1)"),
        (np.ones((2, 7, 5)), LABELS, "cross_entropy", "y, has 7 x 5 numbers for each row"),
        (np.ones((2, 7, 5)), None, "kl", "y, has 7 x 5 numbers for each row"),
        (np.ones((2, 1)), LABELS, "top1", "y, has one number for each row"),
        (CLASSES - 0.5, None, "relative_error", "nothing says that the 3 numbers of the first"),
    ],
)
def test_why_an_answer_is_no_choice_is_told(
    values: Array, labels: Array | None, metric: str, why: str
) -> None:
    assert why in _why("y", values, labels, metric)
