"""The interval of a drop that is counted in rows."""

from __future__ import annotations

import numpy as np
import pytest

from autosparse.evaluation.metrics import BUILT_IN, Metric
from autosparse.evaluation.paired_rows import counts_rows, rows_needed, score_interval
from autosparse.evaluation.scores import mean


def quartic(b: int, c: int, n: int) -> np.poly1d:
    """Both ends are roots of it: Yang, Sun and Hardin 2013.

    "A non-iterative implementation of Tango's score confidence interval for a paired difference of
    proportions", Statistics in Medicine 32:1336-1342.
    """
    g, d, s = 1.959963984540054**2, b - c, b + c
    return np.poly1d(
        [
            n**2 * (n / g + 1) ** 2,
            -n * d * (n / g + 1) * (4 * n / g + 1),
            2 * n * d**2 * (3 * n / g + 2) / g - n**2 * (s / g + 1),
            n * d * (2 * s / g + 1) - d**3 * (4 * n / g + 1) / g,
            d**2 * (d**2 / g - s) / g,
        ]
    )


@pytest.mark.parametrize(
    ("lost", "won", "rows"), [(0, 0, 50), (12, 2, 50), (40, 20, 160), (0, 3, 20), (7, 0, 30)]
)
def test_the_interval_is_the_one_that_was_published(lost: int, won: int, rows: int) -> None:
    low, high = score_interval(lost, won, rows)
    assert low < (lost - won) / rows < high
    roots = quartic(lost, won, rows).roots
    for end in (low, high):
        assert np.abs(roots - end).min() < 1e-6


def test_every_row_lost_is_the_most_that_can_be() -> None:
    assert score_interval(5, 0, 5)[1] == 1.0


def test_it_turns_with_the_signs() -> None:
    low, high = score_interval(7, 3, 120)
    assert score_interval(3, 7, 120) == pytest.approx((-high, -low))


def test_it_holds_the_true_drop_as_often_as_it_says() -> None:
    """Few discordant rows, where drawing rows again covers far less."""
    rng = np.random.default_rng(0)
    rows, lost, won = 60, 0.03, 0.01
    counts = rng.multinomial(rows, [lost, won, 1 - lost - won], size=2000)
    held = [
        low <= lost - won <= high
        for low, high in (score_interval(float(a), float(b), rows) for a, b, _ in counts)
    ]
    assert np.mean(held) > 0.93


@pytest.mark.parametrize("drop", [0.5, 0.05, 0.005])
def test_as_many_rows_as_needed_show_the_drop_and_no_fewer(drop: float) -> None:
    needed = rows_needed(drop)
    assert score_interval(0, 0, needed)[1] <= drop < score_interval(0, 0, needed - 1)[1]


def test_what_is_a_share_of_rows() -> None:
    top1, rmse, spearman = (BUILT_IN[name] for name in ("top1", "rmse", "spearman"))
    own = Metric("mine:right", "of a user's", False, True, top1.score, mean)
    shares, parts = np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.7, 1.0])
    assert counts_rows(top1, shares, parts)
    assert counts_rows(own, shares, shares)
    assert not counts_rows(own, shares, parts)  # nobody says that they reach no further than 1
    assert not counts_rows(top1, shares, 3 * parts)
    assert not counts_rows(rmse, shares, shares)
    assert not counts_rows(BUILT_IN["kl"], np.zeros(3), np.zeros(3))
    assert not counts_rows(spearman, shares, shares)
