"""The simulation behind the figures on a thousand workers is honest about time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autosparse.errors import CandidateError
from autosparse.pipeline.pool import A, InProcess, K, Task
from autosparse.pipeline.search_run import PROPOSALS_PER_TRIAL
from benchmarks.search_on_workers import TimedSearch, search_row, timed_search
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
    assert row.what.startswith("the dispatcher alone: ")
    assert "20000 answers" in row.note
    rounds = simulated_row([1000, 1000], "here")
    assert rounds.holds is None
    assert rounds.figure is not None
    assert row.figure is not None
    assert rounds.figure < row.figure / 2
    searched = simulated_row([12, 1] * 5, "here")
    assert searched.what.endswith("10 rounds of 12 and 1 tasks")
    assert (searched.bar, searched.holds) == ("", None)
    assert searched.figure is not None
    assert searched.figure < 12 / 1000


@dataclass
class CountingPool:
    """Sleeps over nothing, and remembers what it was asked for."""

    sizes: list[int] = field(default_factory=list)
    sees_files: bool = True

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        listed = list(tasks)
        self.sizes.append(len(listed))
        return InProcess().run(kit, listed)


def test_a_search_is_asked_of_workers_round_by_round(tmp_path: Path) -> None:
    pool = CountingPool()
    first = timed_search(tmp_path / "a", pool, 8, 0.0)
    again = timed_search(tmp_path / "a", CountingPool(), 8, 0.0)
    assert len(first.trials) == 8
    assert again.trials == first.trials, "what an earlier run left is not gone on with"
    # a trial by itself, behind a round of up to a dozen; compressing layers is left out
    assert 1 in pool.sizes
    assert max(pool.sizes) == PROPOSALS_PER_TRIAL
    row = search_row(TimedSearch(9.0, ("a", "b")), TimedSearch(5.0, ("a", "b")), "here")
    assert row.holds is True
    assert search_row(TimedSearch(9.0, ("a",)), TimedSearch(5.0, ("b",)), "here").holds is False
    assert search_row(TimedSearch(9.0, ("a",)), TimedSearch(6.0, ("a",)), "here").holds is False


def test_the_dispatcher_costs_little() -> None:
    row = overhead_row(200, "here")
    assert row.figure is not None
    assert row.figure > 0
