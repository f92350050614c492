"""Two files on the same rows: what their difference is worth."""

from __future__ import annotations

import numpy as np
import pytest

from autosparse.evaluation.told_apart import is_surely_larger, parts_of


@pytest.mark.parametrize(("rows", "parts"), [(1, 1), (31, 31), (32, 32), (100, 32), (5000, 32)])
def test_rows_are_averaged_in_at_most_32_parts(rows: int, parts: int) -> None:
    found = parts_of(np.arange(rows, dtype=np.float64))
    assert len(found) == parts
    assert list(found) == sorted(found)
    assert np.mean(found) == pytest.approx((rows - 1) / 2, rel=0.05, abs=1e-12)


def test_hard_rows_are_hard_for_both() -> None:
    """One percent more on every row, in rows that differ a hundredfold."""
    rows = np.geomspace(0.01, 1.0, 400)
    mine, theirs = parts_of(1.01 * rows), parts_of(rows)
    assert is_surely_larger(mine, theirs) is True
    assert is_surely_larger(theirs, mine) is False


def test_the_same_answers_are_not_told_apart() -> None:
    parts = parts_of(np.linspace(0.0, 1.0, 64))
    assert is_surely_larger(parts, parts) is False


@pytest.mark.parametrize("other", [(), (0.1,) * 3, (0.1,) * 31])
def test_where_rows_are_few_or_others_nothing_is_said(other: tuple[float, ...]) -> None:
    assert is_surely_larger((0.2,) * len(other[:3]), other) is None


def test_equally_good_files_are_told_apart_as_rarely_as_is_said() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.gamma(0.5, 1.0, 500)
    told = [
        bool(is_surely_larger(parts_of(one), parts_of(other)))
        for one, other in (hardness * rng.gamma(4.0, 0.25, (2, 500)) for _ in range(1000))
    ]
    # 2.5 % on this side
    assert 0.01 < np.mean(told) < 0.045
