"""A sample stands for all rows: on the mean, and nearly so with few of those that tell most."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosparse.datasets import Dataset
from autosparse.evaluation.metrics import BUILT_IN
from autosparse.evaluation.sample import drawn, whole
from autosparse.evaluation.scores import Floats, Outputs, kl, undecidedness


def logits_of(rows: int, classes: int = 10) -> Floats:
    """Some rows decided, most of them very."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(rows, classes)) * rng.gamma(2.0, 10.0, size=(rows, 1))


def divergences(logits: Floats, seed: int) -> Floats:
    """Of answers that are off by a little."""
    moved = logits + 0.05 * np.random.default_rng(seed).normal(size=logits.shape)
    return kl(Outputs({"logits": moved}), Outputs({"logits": logits}), None)


def errors(sensitivities: Floats, scores: Floats, count: int) -> Floats:
    """Relative errors of estimates from so many rows, over many draws."""
    found = []
    for seed in range(300):
        numbers, weights = drawn(sensitivities, count, np.random.default_rng(seed))
        found.append(float(scores[numbers] @ weights) / float(scores.mean()) - 1.0)
    return np.array(found)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.floats(0.05, 5.0), rows=st.integers(2, 300), share=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_as_many_rows_as_asked_for_each_once_and_none_too_heavy(
    shape: float, rows: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    count = min(max(int(share * rows), 1), rows - 1)
    numbers, weights = drawn(rng.gamma(shape, size=rows), count, rng)
    assert len(numbers) == len(set(numbers.tolist())) == count
    assert numbers[0] >= 0
    assert numbers[-1] < rows
    assert (np.diff(numbers) > 0).all()
    # a certain row stands for itself; what is drawn evenly bounds what any other stands for
    assert (weights >= 1.0 / rows - 1e-12).all()
    assert (weights <= 10.0 / count + 1e-12).all()


def test_the_estimate_is_right_on_the_mean_and_near_it_each_time() -> None:
    logits = logits_of(1000)
    scores = divergences(logits, seed=1)
    by_what_they_tell = errors(undecidedness(Outputs({"logits": logits})), scores, 100)
    evenly = errors(np.ones(1000), scores, 100)
    for found in (by_what_they_tell, evenly):
        assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert by_what_they_tell.std() < 0.5 * evenly.std()


@pytest.mark.parametrize("nothing", [np.zeros(50), np.full(50, np.nan)])
def test_where_nothing_is_expected_rows_are_drawn_evenly(nothing: Floats) -> None:
    numbers, weights = drawn(nothing, 10, np.random.default_rng(0))
    assert np.diff(numbers).tolist() == [5] * 9
    assert weights == pytest.approx(np.full(10, 1 / 10))


def test_rows_that_are_certain_stand_for_themselves() -> None:
    told = np.full(100, 1e-6)
    told[[7, 40]] = 1.0
    for seed in range(20):
        numbers, weights = drawn(told, 10, np.random.default_rng(seed))
        assert {7, 40} <= set(numbers.tolist())
        assert weights[np.isin(numbers, [7, 40])] == pytest.approx(1 / 100)


def test_how_undecided_a_row_is() -> None:
    sure, even = [50.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]
    both = np.array([[sure, even], [even, even]], dtype=np.float32)
    found = undecidedness(Outputs({"logits": both}, {"logits": both[::-1]}))
    assert found == pytest.approx([(0.75 / 2 + 0.75) / 2] * 2)
    assert undecidedness(Outputs({"logits": both[0]})) == pytest.approx([0.0, 0.75], abs=1e-6)


def test_only_a_divergence_that_tells_has_sensitivities() -> None:
    assert [name for name, metric in BUILT_IN.items() if metric.sensitivity] == ["kl"]


def test_all_rows_are_a_sample_too_and_samples_are_told_apart() -> None:
    data = Dataset({"x": np.zeros((4, 2), dtype=np.float32)})
    sample = whole(data, Outputs({"y": np.zeros((4, 1))}))
    assert sample.mean(np.array([1.0, 2.0, 3.0, 6.0])) == 3.0
    other = whole(data.rows(slice(0, 3)), Outputs({"y": np.zeros((3, 1))}))
    assert sample.id == whole(data, sample.outputs).id != other.id
