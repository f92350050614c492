"""The surrogate: it begins with the table's sum, and learns what the table does not tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from autosparse.search.chain import Floats, Ints
from autosparse.search.surrogate import Surrogate

LAYERS, LEVELS = 8, 4


def errors() -> Floats:
    rng = np.random.default_rng(0)
    table = np.exp(rng.normal(0.0, 0.7, size=(LAYERS, 1))) * np.array([0.0, 0.05, 0.3, 1.0])
    assert isinstance(table, np.ndarray)
    return table


def points(count: int, seed: int) -> Ints:
    return np.random.default_rng(seed).integers(0, LEVELS, size=(count, LAYERS))


def summed(table: Floats, of: Ints) -> Floats:
    sums: Floats = table[np.arange(LAYERS), of].sum(axis=1)
    return sums


def rank_agreement(first: Floats, second: Floats) -> float:
    return float(spearmanr(first, second).statistic)


def test_where_errors_add_up_it_says_the_sum() -> None:
    table, seen, new = errors(), points(40, 1), points(200, 2)
    mean, spread = Surrogate(table, seen, summed(table, seen)).predict(new)
    np.testing.assert_allclose(mean, summed(table, new), rtol=0.05, atol=0.05)
    assert (spread >= 0).all()


def test_it_learns_that_one_layer_costs_ten_times_what_the_table_says() -> None:
    table, seen, new = errors(), points(80, 1), points(300, 2)
    true = table.copy()
    true[3] *= 10.0
    surrogate = Surrogate(table, seen, summed(true, seen))
    mean, _ = surrogate.predict(new)
    learnt = rank_agreement(mean, summed(true, new))
    assert learnt > 0.95
    assert learnt > rank_agreement(summed(table, new), summed(true, new)) + 0.1
    ratio = surrogate.level_errors()[3, 3] / table[3, 3]
    assert 4.0 < ratio < 15.0


def test_it_learns_a_pair_that_no_sum_explains() -> None:
    table, seen, new = errors(), points(150, 1), points(300, 2)

    def true(of: Ints) -> Floats:
        return summed(table, of) + 6.0 * ((of[:, 1] > 0) & (of[:, 4] > 0))

    mean, _ = Surrogate(table, seen, true(seen)).predict(new)
    assert rank_agreement(mean, true(new)) > 0.85
    assert rank_agreement(summed(table, new), true(new)) < 0.8


def test_lengths_of_vectors_add_up_in_squares() -> None:
    table, seen, new = errors(), points(60, 1), points(300, 2)
    surrogate = Surrogate(table, seen, np.sqrt(summed(np.square(table), seen)))
    mean, _ = surrogate.predict(new)
    true = np.sqrt(summed(np.square(table), new))
    assert rank_agreement(mean, true) > 0.98
    assert rank_agreement(summed(table, new), true) < 0.97


def test_it_is_surer_of_what_it_has_seen_much_of() -> None:
    table = errors()
    seen = points(60, 1)
    seen[:, 2] = np.minimum(seen[:, 2], 1)
    surrogate = Surrogate(table, seen, summed(table, seen))
    usual, strange = points(100, 3), points(100, 3)
    usual[:, 2], strange[:, 2] = 1, 3
    (_, sure), (_, unsure) = surrogate.predict(usual), surrogate.predict(strange)
    assert unsure.mean() > 1.5 * sure.mean()


def test_thousands_of_points_cost_no_more_than_the_best_and_the_latest() -> None:
    table, seen, new = errors(), points(3000, 1), points(100, 2)
    mean, _ = Surrogate(table, seen, summed(table, seen)).predict(new)
    assert rank_agreement(mean, summed(table, new)) > 0.95


def test_no_points_are_an_answer_too() -> None:
    table, seen = errors(), points(10, 1)
    mean, spread = Surrogate(table, seen, summed(table, seen)).predict(seen[:0])
    assert mean.shape == spread.shape == (0,)


def test_layers_with_fewer_levels_keep_them() -> None:
    table, seen = errors(), points(30, 1)
    table[0, 2:] = np.inf
    seen[:, 0] = np.minimum(seen[:, 0], 1)
    surrogate = Surrogate(table, seen, summed(table, seen))
    assert np.isinf(surrogate.level_errors()[0, 2:]).all()
    assert np.isfinite(surrogate.predict(seen)[0]).all()


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_models_that_lose_nothing_are_no_division_by_zero(value: float) -> None:
    table, seen = np.zeros((LAYERS, LEVELS)), points(20, 1)
    mean, spread = Surrogate(table, seen, np.full(20, value)).predict(seen)
    assert np.isfinite(mean).all()
    assert np.isfinite(spread).all()
