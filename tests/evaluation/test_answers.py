"""Answers that are judged batch by batch, and where the dense model's are kept."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.errors import MeasurementError
from autosparse.evaluation import answers
from autosparse.evaluation.answers import (
    Batch,
    Keeper,
    StoredOutputs,
    answered,
    gathered,
    in_batches,
)
from autosparse.evaluation.metrics import BUILT_IN, Metric, Outputs, load_metric
from autosparse.evaluation.quality import row_scores
from autosparse.evaluation.scores import mean
from tests.models import Array

ROWS = 23


class Wide:
    """A model with many outputs: NumPy adds them up in another order where a batch has one row."""

    def __init__(self, noise: float) -> None:
        self._noise = noise

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = np.asarray(inputs["x"], np.float32)
        return {f"y{n}": (n + 1) * x + np.float32(self._noise) * x * x for n in range(12)}


def data_for(metric: str) -> Dataset:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((ROWS, 6, 37)).astype(np.float32)
    labels: Array = rng.integers(0, 6 * 37, ROWS)
    if metric == "cross_entropy":
        labels = np.where(rng.random((ROWS, 6)) < 0.3, -100, rng.integers(0, 37, (ROWS, 6)))
        labels[4] = -100  # a row without any, alone in its batch
    if metric in ("mae", "rmse"):
        labels = rng.standard_normal((ROWS, 6 * 37))
    if metric == "spearman":
        labels = rng.standard_normal(ROWS)
    return Dataset({"x": x}, labels, {"x": x[::-1]} if metric == "spearman" else None)


@pytest.mark.parametrize("batch", [1, 4, 32])
@pytest.mark.parametrize("name", list(BUILT_IN))
def test_batch_by_batch_scores_are_the_same_to_the_bit(
    name: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "IN_MEMORY_BYTES", 1000)
    data, metric = data_for(name), BUILT_IN[name]
    mine, dense = Wide(0.1), Wide(0.0)
    whole, theirs = (gathered(answered(m, data, 32), ROWS) for m in (mine, dense))
    expected = metric.score(whole, theirs, data.labels)
    keeper = Keeper(ROWS, tmp_path)
    (own,) = row_scores(keeper.passing(answered(dense, data, batch)), (metric,), data)
    assert isinstance(keeper.kept, StoredOutputs)
    (found,) = row_scores(answered(mine, data, batch), (metric,), data, keeper.kept)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(own, metric.score(theirs, theirs, data.labels))


def test_no_batch_is_kept_by_who_judges_them() -> None:
    """When a batch comes, no more than the last one is still there."""
    seen: list[weakref.ref[Array]] = []
    most = 0

    def batches_of(rows: int) -> Iterator[Batch]:
        nonlocal most
        for row in range(rows):
            array: Array = np.ones((1, 5), np.float32)
            seen.append(weakref.ref(array))
            passed = Outputs({"y": array})
            del array
            yield slice(row, row + 1), passed
            del passed
            most = max(most, sum(reference() is not None for reference in seen))

    data = Dataset({"x": np.zeros((20, 1), np.float32)})
    dense = Outputs({"y": np.ones((20, 5), np.float32)})
    row_scores(batches_of(20), (BUILT_IN["kl"], BUILT_IN["relative_error"]), data, dense)
    assert len(seen) == 20
    assert most == 1


def test_metrics_that_score_alike_are_asked_once() -> None:
    calls: list[int] = []

    def score(outputs: Outputs, dense: Outputs, labels: Array | None) -> Any:
        calls.append(1)
        return np.ones(1)

    first, second = (
        Metric(name, "", needs_labels=False, higher_is_better=True, score=score, aggregate=mean)
        for name in ("one", "other")
    )
    data = Dataset({"x": np.zeros((3, 1), np.float32)})
    found = row_scores(answered(Wide(0.0), data, 1), (first, second), data)
    assert len(calls) == 3
    np.testing.assert_array_equal(found, np.ones((2, 3)))


def test_the_users_own_metric_is_given_all_answers_at_once() -> None:
    metric = load_metric("tests.evaluation.user_metric:first_of_row")
    seen: list[int] = []

    def score(outputs: Outputs, dense: Outputs, labels: Array | None) -> Any:
        seen.append(len(outputs.values["y0"]))
        return np.zeros(len(outputs.values["y0"]))

    whole = Metric(
        "own", "", needs_labels=False, higher_is_better=True, score=score, aggregate=mean,
        judges_rows_apart=metric.judges_rows_apart,
    )  # fmt: skip
    data = data_for("kl")
    row_scores(answered(Wide(0.0), data, 4), (BUILT_IN["kl"], whole), data)
    assert seen == [ROWS]


@pytest.mark.parametrize("most", [0, 1 << 30])
@pytest.mark.parametrize("paired", [False, True])
def test_what_is_kept_is_what_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paired: bool, most: int
) -> None:
    monkeypatch.setattr(answers, "IN_MEMORY_BYTES", most)
    data = data_for("spearman" if paired else "kl")
    keeper = Keeper(ROWS, tmp_path)
    passed = gathered(keeper.passing(answered(Wide(0.3), data, 4)), ROWS)
    assert bool(list(tmp_path.iterdir())) == (most == 0)
    few = keeper.kept.rows(slice(3, 7)).values
    for name, values in passed.values.items():
        np.testing.assert_array_equal(few[name], values[3:7])
        assert not isinstance(few[name], np.memmap)  # what was read is gone with its batch
    travelled = pickle.loads(pickle.dumps(keeper.kept))  # as to a worker that sees the files
    for kept in (travelled.loaded(), keeper.kept.loaded()):
        assert (kept.pair_values is not None) == paired
        again = gathered(in_batches(keeper.kept, ROWS, 5), ROWS)
        for side, other in ((again, passed), (kept, passed)):
            for name, values in other.values.items():
                np.testing.assert_array_equal(side.values[name], values)
            for name, values in (other.pair_values or {}).items():
                np.testing.assert_array_equal((side.pair_values or {})[name], values)


def test_what_is_stored_travels_as_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "IN_MEMORY_BYTES", 0)
    keeper = Keeper(ROWS, tmp_path)
    gathered(keeper.passing(answered(Wide(0.3), data_for("kl"), 4)), ROWS)
    assert len(pickle.dumps(keeper.kept)) < 5000 < ROWS * 6 * 37 * 4


def test_answers_whose_shape_changes_are_told() -> None:
    class Growing:
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            return {"y": np.zeros((1, int(np.asarray(inputs["x"])[0, 0])), np.float32)}

    data = Dataset({"x": np.array([[1.0], [2.0]], np.float32)})
    with pytest.raises(MeasurementError, match=r"'y' has \(2,\) for one row and \(1,\) for"):
        gathered(answered(Growing(), data, 1), 2)
