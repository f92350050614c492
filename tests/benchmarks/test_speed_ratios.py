"""Ratios, their intervals, geometric means and the words around them."""

from __future__ import annotations

import pytest

from autosparse.evaluation import Measurement
from autosparse.evaluation.measurement import Block
from benchmarks.speed_ratios import Bar, MeanSpeedup, Speedup, fastest_of


def measured(*rounds: float, accepted: bool = True) -> Measurement:
    blocks = tuple(
        Block(samples_seconds=(seconds,) * 3, slowdown=0.0, accepted=accepted) for seconds in rounds
    )
    return Measurement(
        label="file", file_sha256="", target="t", environment="e", warmup_runs=0, blocks=blocks
    )


def speedup(ratio: float, spread: float = 1.0) -> Speedup:
    return Speedup(1e-3, ratio * 1e-3, ratio, ratio / spread, ratio * spread, 8)


def test_a_file_that_takes_half_the_time_is_twice_as_fast() -> None:
    found = Speedup.of(measured(0.2, 0.2, 0.2), measured(0.1, 0.1, 0.1))
    assert (found.ratio, found.low, found.high) == (2.0, 2.0, 2.0)
    assert found.rounds == 3


def test_the_interval_holds_the_ratio() -> None:
    found = Speedup.of(measured(0.2, 0.22, 0.21, 0.2), measured(0.1, 0.1, 0.104, 0.1))
    assert found.low < found.ratio < found.high


def test_a_row_has_our_speed_over_theirs() -> None:
    found = Speedup.of(measured(0.2, 0.2, 0.2), measured(0.1, 0.1, 0.1))
    row = found.row("w", "them", "e", "engine 1.0")
    assert (row.figure, row.opponent_figure, row.ratio) == (10.0, 5.0, 2.0)
    assert row.note == "100 ms against 200 ms; ratio 2.00 to 2.00, 3 rounds; engine 1.0"


def test_the_mean_is_geometric() -> None:
    mean = MeanSpeedup.of([speedup(1.0), speedup(4.0)])
    assert mean.ratio == pytest.approx(2.0)
    assert (mean.least, mean.most) == pytest.approx((1.0, 4.0))
    assert (mean.low, mean.high) == pytest.approx((2.0, 2.0))
    assert mean.count == 2


def test_the_mean_of_many_is_surer_than_one() -> None:
    one, four = MeanSpeedup.of([speedup(2.0, 1.2)]), MeanSpeedup.of([speedup(2.0, 1.2)] * 4)
    assert one.high == pytest.approx(2.4)
    assert four.high == pytest.approx(2.0 * 1.2**0.5)


@pytest.mark.parametrize(("ratio", "holds"), [(1.39, False), (1.4, True), (1.5, True)])
def test_a_bar_is_met_from_its_number_on(ratio: float, holds: bool) -> None:
    row = Bar("layers", "INT8", 1.4).row([speedup(ratio)], "e", absent="")
    assert (row.holds, row.bar) == (holds, ">= 1.4")
    assert row.what == "geometric mean against INT8: layers"


def test_a_report_holds_nothing() -> None:
    row = Bar("layers", "INT8").row([speedup(0.1)], "e", absent="")
    assert (row.holds, row.bar) == (None, "")


def test_what_was_not_measured_is_skipped_with_its_reason() -> None:
    row = Bar("layers", "INT8", 1.4).row([], "e", absent="no interpreter")
    assert (row.holds, row.note) == (None, "skipped: no interpreter")


def test_the_fastest_opponent_counts() -> None:
    assert fastest_of({"a": measured(0.2), "b": measured(0.1)}, ["a", "b"]) == "b"
