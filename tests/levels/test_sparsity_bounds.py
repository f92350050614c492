"""Bounds on zeros, worked by hand, and the theorem behind the PQ index on random weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosparse.levels.sparsity_bounds import knee_sparsity, pq_highest_sparsity, pq_index

FLAT = np.full((4, 25), -0.3, dtype=np.float32)
ONE_HOT = np.eye(1, 100, 17, dtype=np.float32)
weights_of = st.lists(st.floats(-1e3, 1e3, allow_nan=False, width=32), min_size=2, max_size=40).map(
    lambda values: np.array(values, dtype=np.float64)
)


@pytest.mark.parametrize(("p", "q"), [(1.0, 2.0), (0.5, 1.0)])
def test_the_index_meets_its_analytic_bounds(p: float, q: float) -> None:
    assert pq_index(FLAT, p, q) == pytest.approx(0.0, abs=1e-9)
    assert pq_index(ONE_HOT, p, q) == pytest.approx(1.0 - 100 ** (1 / q - 1 / p))


def test_the_index_by_hand() -> None:
    # |w|_1 = 7, |w|_2 = 5, two weights: 1 - 7 / (5 sqrt 2)
    assert pq_index(np.array([3.0, -4.0])) == pytest.approx(1 - 7 / (5 * 2**0.5))


def test_the_index_does_not_depend_on_the_scale() -> None:
    weights = np.random.default_rng(0).standard_normal(64)
    for scale in (1e-30, 1e-3, 1e30):
        assert pq_index(scale * weights) == pytest.approx(pq_index(weights))


def test_the_bound_by_hand() -> None:
    # at least 2 (1 + 1)^-2 (7 / (5 sqrt 2))^2 = 0.49 of the two weights stay
    assert pq_highest_sparsity(np.array([3.0, -4.0])) == pytest.approx(1 - 0.49 / 2)
    # equal weights: half of the sum may go where as much is kept, and the bound asks for a quarter
    assert pq_highest_sparsity(FLAT) == pytest.approx(0.75)
    assert pq_highest_sparsity(FLAT, slack=0.0) == pytest.approx(0.0, abs=1e-9)


@given(weights_of, st.data())
def test_no_pruning_within_the_slack_is_refused(weights: np.ndarray, data: st.DataObject) -> None:
    """The theorem: what magnitude pruning may remove, the bound leaves room for."""
    magnitudes = np.sort(np.abs(weights))
    zeros = data.draw(st.integers(0, len(weights) - 1))
    removed, kept = magnitudes[:zeros].sum(), magnitudes[zeros:].sum()
    if kept == 0:
        return
    bound = pq_highest_sparsity(weights, slack=float(removed / kept))
    assert zeros / len(weights) <= bound + 1e-6


@given(weights_of, st.floats(0, 10))
def test_zeros_that_are_there_are_never_refused(weights: np.ndarray, slack: float) -> None:
    weights = np.where(np.abs(weights) < 100, 0.0, weights)
    own = float((weights == 0).mean())
    assert pq_highest_sparsity(weights, slack) >= own - 1e-6
    assert knee_sparsity(weights) >= own - 1e-9
    assert knee_sparsity(weights) <= 1.0


def test_more_slack_leaves_more_room() -> None:
    weights = np.random.default_rng(0).standard_normal(500)
    bounds = [pq_highest_sparsity(weights, slack) for slack in (0.0, 0.5, 1.0, 3.0)]
    assert bounds == sorted(bounds)
    # normal weights: (1 - PQ)^2 = 2 / pi, a quarter of it with a slack of 1
    assert bounds[2] == pytest.approx(1 - 2 / np.pi / 4, abs=0.01)


def test_the_knee_is_where_the_norm_begins_to_go() -> None:
    assert knee_sparsity(np.array([0.0] * 8 + [1.0, -1.0])) == pytest.approx(0.8)
    assert knee_sparsity(np.array([1e-6] * 9 + [1.0])) == pytest.approx(0.9)
    # equal weights: sqrt(1 - s) - (1 - s) is largest at 3/4
    assert knee_sparsity(FLAT) == pytest.approx(0.75)


def test_the_knee_does_not_move_with_the_draw() -> None:
    """Essential sparsity is a property of the distribution: normal weights, another seed."""
    knees = [knee_sparsity(np.random.default_rng(seed).standard_normal(4096)) for seed in range(3)]
    assert max(knees) - min(knees) < 0.05
    assert 0.7 < min(knees) < max(knees) < 0.9


def test_nothing_is_lost_where_all_weights_are_zero() -> None:
    zeros = np.zeros((3, 4), dtype=np.float32)
    assert pq_highest_sparsity(zeros) == 1.0
    assert knee_sparsity(zeros) == 1.0
    assert pq_index(zeros) == pytest.approx(1 - 12**-0.5)
