"""The simulation behind the figures on a thousand workers is honest about time."""

from __future__ import annotations

import pytest

from benchmarks.simulated_crew import Fate, SimulatedCrew
from benchmarks.workers import fates, overhead_row, simulated_row
from workers.dispatcher import Dispatcher


def test_time_is_counted_as_it_would_pass() -> None:
    crew = SimulatedCrew(2, lambda task: Fate(10.0))
    Dispatcher[int, int](crew).run(range(5))
    assert crew.clock == 30.0
    assert crew.last_new == 20.0
    assert crew.busy_until(30.0) == 50.0
    assert crew.busy_until(15.0) == 30.0


def test_a_crash_and_the_wait_for_another_worker_are_lost_time() -> None:
    crashes = iter([True, False])
    crew = SimulatedCrew(1, lambda task: Fate(10.0, crashes=next(crashes)), restart_seconds=5.0)
    assert Dispatcher[int, int](crew).run([7]) == [7]
    assert crew.clock == 25.0
    assert crew.busy_until(crew.clock) == 10.0


def test_task_times_have_a_heavy_tail_and_some_crash() -> None:
    fate_of = fates(3)
    drawn = [fate_of(task) for task in range(10_000)]
    seconds = sorted(fate.seconds for fate in drawn)
    assert seconds[0] >= 2.0
    assert seconds[-1] == 60.0
    assert sum(seconds[-500:]) > 0.25 * sum(seconds)
    assert sum(fate.crashes for fate in drawn) == pytest.approx(100, abs=40)


def test_a_thousand_workers_are_kept_busy() -> None:
    row = simulated_row([20_000], "here")
    assert row.holds
    assert "20000 answers" in row.note
    rounds = simulated_row([1000, 1000], "here")
    assert rounds.holds is None
    assert rounds.figure is not None
    assert row.figure is not None
    assert rounds.figure < row.figure / 2


def test_the_dispatcher_costs_little() -> None:
    row = overhead_row(200, "here")
    assert row.figure is not None
    assert row.figure > 0
