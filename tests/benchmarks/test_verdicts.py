"""Better, worse or chance; and what all cells come to."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.job_rows import tally_rows
from benchmarks.verdicts import Difference, Outcome, Tally, paired_difference

RNG = np.random.default_rng(3)
HARD_ROWS = RNG.exponential(1.0, 400)


def test_a_small_gain_on_every_row_is_better() -> None:
    # unpaired, the spread of the rows would hide it
    assert paired_difference(HARD_ROWS - 0.01, HARD_ROWS).outcome is Outcome.BETTER


def test_a_small_loss_on_every_row_is_worse() -> None:
    assert paired_difference(HARD_ROWS + 0.01, HARD_ROWS).outcome is Outcome.WORSE


def test_noise_is_a_tie() -> None:
    noise = RNG.normal(0.0, 1.0, 400)
    centred = noise - noise.mean()
    assert paired_difference(HARD_ROWS + centred, HARD_ROWS).outcome is Outcome.TIE


def test_equal_files_tie() -> None:
    difference = paired_difference(HARD_ROWS, HARD_ROWS)
    assert (difference.mean, difference.outcome) == (0.0, Outcome.TIE)


def test_the_interval_is_where_the_mean_is() -> None:
    difference = paired_difference(RNG.normal(2.0, 1.0, 1000), np.zeros(1000))
    assert difference.low < difference.mean < difference.high
    # plus or minus two standard errors of 1 / sqrt(1000)
    assert difference.high - difference.low == pytest.approx(4 / 1000**0.5, rel=0.15)


def test_the_same_rows_give_the_same_interval() -> None:
    rows = RNG.normal(0.0, 1.0, 50)
    assert paired_difference(rows, HARD_ROWS[:50]) == paired_difference(rows, HARD_ROWS[:50])


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (np.zeros(3), np.zeros(4), "no pairs"),
        (np.zeros(0), np.zeros(0), "no pairs"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "no pairs"),
        (np.array([0.0, np.nan]), np.zeros(2), "1 rows are NaN"),
    ],
)
def test_rows_that_cannot_be_compared(ours: np.ndarray, theirs: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        paired_difference(ours, theirs)


def test_an_interval_that_touches_zero_is_no_evidence() -> None:
    assert Difference(-1.0, -2.0, 0.0).outcome is Outcome.TIE
    assert Difference(1.0, 0.0, 2.0).outcome is Outcome.TIE


@pytest.mark.parametrize(
    ("outcomes", "better", "losses", "mostly"),
    [
        ([Outcome.BETTER, Outcome.TIE], 1, 0, True),
        ([Outcome.BETTER, Outcome.TIE, Outcome.ONLY_OURS], 1, 0, False),
        ([Outcome.BETTER, Outcome.WORSE, Outcome.ONLY_THEIRS], 1, 2, False),
        ([], 0, 0, True),
    ],
)
def test_the_tally(outcomes: list[Outcome], better: int, losses: int, mostly: bool) -> None:
    tally = Tally.of(outcomes)
    assert (tally.better, tally.losses, tally.mostly_better) == (better, losses, mostly)


def test_the_bars_are_half_better_and_none_worse() -> None:
    outcomes = [Outcome.BETTER, Outcome.BETTER, Outcome.WORSE]
    better, worse = tally_rows("mix", outcomes, "e")
    assert (better.figure, better.unit, better.holds) == (2, "of 3", True)
    assert (worse.figure, worse.bar, worse.holds) == (1, "none", False)
    assert better.note == "better 2, worse 1"
