"""The benchmark of recovery trainings: its bars, its intervals, and what it says without data."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.levels import Level
from benchmarks.benchmark import Request
from benchmarks.methods import (
    BARS,
    FULL,
    QUICK,
    MethodsBenchmark,
    chosen_scale,
    interval_text,
    timed_plans,
)


def test_every_bar_is_a_level_of_every_model() -> None:
    for spelling, bars in BARS.items():
        assert Level.parse(spelling).sparsity > 0
        assert set(bars) == set(FULL.models)
    assert set(QUICK.models) <= set(FULL.models)
    assert FULL.has_bars
    assert not QUICK.has_bars
    assert [plan.seed for plan in timed_plans(FULL)] == [0, 1, 2]


def test_an_interval_over_seeds_by_hand() -> None:
    """Mean 2, standard deviation 1: 4.30 / sqrt(3) to each side."""
    assert interval_text([1.0, 2.0, 3.0]) == "2.00 (-0.48 to 4.48), 3 seeds"
    assert interval_text([1.5]) == "1.50, one seed"


@pytest.mark.parametrize("quick", [True, False])
def test_without_the_assets_the_rows_are_skipped(tmp_path: Path, *, quick: bool) -> None:
    request = Request(quick=quick, assets=tmp_path, directory=tmp_path / "run")
    rows = list(MethodsBenchmark().rows(request))
    scale = QUICK if quick else FULL
    assert [row.what for row in rows] == list(scale.models)
    assert all(row.note.startswith("skipped: there is no models/") for row in rows)
    assert all(row.holds is None for row in rows)


def test_recoveries_are_compared_by_name() -> None:
    scale = chosen_scale(False, ("resnet20", "gsm", "st3"))
    assert (scale.models, scale.compared) == (("resnet20",), ("gsm", "st3"))
    assert scale.steps == FULL.steps
    quick = chosen_scale(True, ("gsm",))
    assert (quick.models, quick.compared) == (QUICK.models, ("gsm",))
    assert quick.steps > 0
    assert chosen_scale(False, ()) == FULL
