"""Quality: what a drop is, its interval, and how a file is run over a data set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.errors import CandidateError, DataError, MeasurementError
from autosparse.evaluation import Quality
from autosparse.evaluation.answers import run_dataset
from autosparse.evaluation.metrics import BUILT_IN, Outputs
from tests.evaluation.judging import judged
from tests.models import Array, Floats

TOP1, KL, RELATIVE = BUILT_IN["top1"], BUILT_IN["kl"], BUILT_IN["relative_error"]


def outputs(values: Array, **more: Array) -> Outputs:
    return Outputs({"y": values, **more})


def answers(*classes: int, of: int = 3) -> Outputs:
    """Outputs whose highest value is at the given classes."""
    return outputs(np.eye(of, dtype=np.float32)[list(classes)])


def dataset(labels: Array | None, rows: int) -> Dataset:
    return Dataset(inputs={"x": np.zeros((rows, 1), np.float32)}, labels=labels)


def test_top1_is_the_share_of_rows_whose_highest_output_is_the_label() -> None:
    labels = np.array([0, 1, 2, 2])
    found = answers(0, 1, 1, 2)
    np.testing.assert_array_equal(TOP1.score(found, found, labels), [1, 1, 0, 1])
    assert TOP1.value(found, found, labels) == 0.75


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs labels"),
        (np.array([[0], [1]]), "needs labels"),
        (np.array([0.0, 1.0]), "needs labels"),
        (np.array([0, 3]), "from 0 to 3, the model's first output has 3 classes"),
        (np.array([-1, 0]), "from -1 to 0"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Array | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TOP1.score(answers(0, 1), answers(0, 1), labels)


def test_kl_is_zero_only_for_the_same_distribution() -> None:
    # softmax of (0, ln 3) is (1/4, 3/4); of (0, 0) it is (1/2, 1/2)
    dense = outputs(np.array([[0, np.log(3)], [0, 0]], np.float32))
    other = outputs(np.array([[0, 0], [7, 7]], np.float32))
    by_hand = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    np.testing.assert_allclose(KL.score(other, dense, None), [by_hand, 0], atol=1e-7)
    np.testing.assert_array_equal(KL.score(dense, dense, None), [0, 0])


def test_kl_survives_extreme_logits() -> None:
    dense = outputs(np.array([[1e4, -1e4]], np.float32))
    other = outputs(np.array([[-1e4, 1e4]], np.float32))
    assert KL.value(other, dense, None) == pytest.approx(2e4)


def test_the_relative_error_is_squared_distance_over_squared_norm() -> None:
    dense = outputs(np.array([[3.0, 4.0], [0.0, 2.0]]))
    other = outputs(np.array([[3.0, 3.0], [0.0, 0.0]]))
    np.testing.assert_allclose(RELATIVE.score(other, dense, None), [1 / 25, 1.0])


def test_several_outputs_count_alike() -> None:
    dense = outputs(np.array([[2.0]]), z=np.array([[[1.0, 0.0]]]))
    other = outputs(np.array([[1.0]]), z=np.array([[[1.0, 0.0]]]))
    np.testing.assert_allclose(RELATIVE.score(other, dense, None), [0.125])


def test_a_drop_is_positive_where_the_candidate_is_worse() -> None:
    labels = np.arange(100) % 3
    dense = answers(*labels)
    worse = answers(*np.where(np.arange(100) < 10, (labels + 1) % 3, labels))
    quality = judged(TOP1, worse, dense, dataset(labels, 100))
    assert (quality.baseline_value, quality.value) == (1.0, 0.9)
    assert quality.drop == pytest.approx(0.1)
    assert 0.03 < quality.drop_interval.low < 0.1 < quality.drop_interval.high < 0.2
    assert (quality.metric, quality.rows) == ("top1", 100)


def test_a_better_candidate_has_a_negative_drop() -> None:
    labels = np.zeros(10, dtype=np.int64)
    quality = judged(TOP1, answers(*[0] * 10), answers(*[1] * 10), dataset(labels, 10))
    assert quality.drop == -1.0


def test_a_divergence_is_a_drop_upwards() -> None:
    dense = outputs(np.ones((5, 2), np.float32))
    quality = judged(RELATIVE, outputs(np.zeros((5, 2))), dense, dataset(None, 5))
    assert quality.baseline_value == 0.0
    assert quality.drop == quality.value == 1.0


def half_wrong(rows: int) -> tuple[Array, Outputs]:
    labels = np.arange(rows) % 3
    return labels, answers(*np.where(np.arange(rows) % 2, labels, (labels + 1) % 3))


def test_the_dense_model_beside_itself_loses_nothing() -> None:
    labels, dense = half_wrong(50)
    quality = judged(TOP1, dense, dense, dataset(labels, 50))
    assert quality.value == 0.5
    assert (quality.drop, quality.drop_interval.low, quality.drop_interval.high) == (0, 0, 0)


def test_rows_are_compared_in_pairs() -> None:
    """Both fail on the same rows: what they have in common says nothing of their difference."""
    labels, dense = half_wrong(50)
    _, other = half_wrong(50)
    quality = judged(TOP1, other, dense, dataset(labels, 50))
    # half of what two models that fail on rows of their own would have
    assert quality.drop_interval.high == pytest.approx(0.0713, abs=1e-4)


@pytest.mark.parametrize(("rows", "high"), [(1, 0.793), (10, 0.278), (100, 0.037), (2000, 0.0019)])
def test_equal_answers_to_few_rows_prove_little(rows: int, high: float) -> None:
    labels, dense = half_wrong(rows)
    _, other = half_wrong(rows)
    quality = judged(TOP1, other, dense, dataset(labels, rows))
    assert quality.drop == 0.0
    assert quality.drop_interval.high == pytest.approx(high, abs=5e-4)
    assert quality.drop_interval.low == pytest.approx(-high, abs=5e-4)


def test_a_distance_is_not_taken_for_a_share_of_rows() -> None:
    dense = outputs(np.ones((5, 2), np.float32))
    quality = judged(RELATIVE, outputs(np.ones((5, 2))), dense, dataset(None, 5))
    assert (quality.drop_interval.low, quality.drop_interval.high) == (0, 0)


def test_a_quality_repeats_and_survives_its_file() -> None:
    labels = np.arange(30) % 3
    candidate = answers(*np.roll(labels, 1))
    first = judged(TOP1, candidate, answers(*labels), dataset(labels, 30))
    again = judged(TOP1, candidate, answers(*labels), dataset(labels, 30))
    assert first == again == Quality.model_validate_json(first.model_dump_json())


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_no_numbers_fail_the_candidate_not_the_search(broken: float) -> None:
    values = np.ones((4, 2), np.float32)
    values[2, 1] = broken
    dense = outputs(np.ones((4, 2), np.float32))
    with (
        pytest.raises(CandidateError, match="relative_error is NaN or infinite for 1 of 4 rows"),
        np.errstate(invalid="ignore"),
    ):
        judged(RELATIVE, outputs(values), dense, dataset(None, 4))


class Doubler:
    """A model with a fixed batch: `y` is twice `x`."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = np.asarray(inputs["x"], dtype=np.float32)
        assert len(x) == self.batch
        return {"y": 2 * x, "z": x.sum(axis=1)}


class WithoutRows:
    def __init__(self, answer: Floats) -> None:
        self.answer = answer

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": self.answer}


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 9])
def test_every_row_is_answered_once_whatever_the_batch(rows: int) -> None:
    x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    found = run_dataset(Doubler(4), Dataset(inputs={"x": x}), batch_size=4)
    np.testing.assert_array_equal(found.values["y"], 2 * x)
    np.testing.assert_array_equal(found.values["z"], x.sum(axis=1))
    assert found.pair_values is None


def test_both_halves_of_pairs_are_answered() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = run_dataset(Doubler(2), Dataset(inputs={"x": x}, pair_inputs={"x": x + 1}), 2)
    assert found.pair_values is not None
    np.testing.assert_array_equal(found.pair_values["y"], 2 * (x + 1))


@pytest.mark.parametrize("answer", [np.float32(1), np.ones((1, 2), np.float32)])
def test_an_output_that_does_not_count_rows_is_told(answer: Floats) -> None:
    data = Dataset(inputs={"x": np.ones((4, 2), np.float32)})
    with pytest.raises(MeasurementError, match="first axis does not count rows"):
        run_dataset(WithoutRows(np.asarray(answer)), data, batch_size=4)
