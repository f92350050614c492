"""Interleaved timing with a clock and canaries that play a machine."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from pydantic import ValidationError

from autosparse.evaluation import TimingSettings
from autosparse.evaluation.canaries import Canaries
from autosparse.evaluation.measurement import Block, CanaryReading
from autosparse.evaluation.timing import involuntary_switches, time_interleaved

TICK = 1 / 64  # sums of it are exact
DISTURBED = [1.0, 1.0, 1.0, 1.0, 1.0, 2.5, 2.5, 1.0]


class FakeMachine:
    """A clock that only work moves, canaries, and files that take a fixed time.

    Args:
        seconds: label -> seconds of one inference on the quiet machine.
        slowdowns: factor of each canary reading and of the work after it; then quiet for ever.
    """

    def __init__(self, seconds: dict[str, float], slowdowns: list[float] | None = None) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self._seconds = seconds
        self._slowdowns: Iterator[float] = iter(slowdowns or [])
        self._factor = 1.0
        self._fastest = float("inf")
        self.interruptions = 0

    def clock(self) -> float:
        return self.now

    def read(self) -> CanaryReading:
        self.calls.append("canary")
        self._factor = next(self._slowdowns, 1.0)
        self._fastest = min(self._fastest, self._factor)
        # only the vector units are throttled
        return CanaryReading(fma_seconds=self._factor, stream_seconds=2.0, scalar_seconds=3.0)

    def best(self) -> CanaryReading:
        return CanaryReading(fma_seconds=self._fastest, stream_seconds=2.0, scalar_seconds=3.0)

    def runs(self) -> dict[str, Callable[[], None]]:
        def run(label: str) -> Callable[[], None]:
            def once() -> None:
                self.calls.append(label)
                self.now += self._seconds[label] * self._factor

            return once

        return {label: run(label) for label in self._seconds}

    def time(self, **settings: float) -> dict[str, tuple[Block, ...]]:
        given = {"rounds": 4, "block_seconds": 3 * TICK, "warmup_runs": 1, **settings}
        return time_interleaved(
            self.runs(), TimingSettings.model_validate(given), self, clock=self.clock,
            interruptions=lambda: self.interruptions,
        )  # fmt: skip

    def blocks_in_order(self) -> list[str]:
        """The file of each block, the settling in at the start left out."""
        started = self.calls.index("canary")
        pieces = " ".join(self.calls[started:]).split("canary")
        return [piece.split()[0] for piece in pieces if piece.strip()]


def test_samples_are_what_the_clock_says() -> None:
    blocks = FakeMachine({"a": TICK, "b": TICK / 4}).time()
    assert {label: len(taken) for label, taken in blocks.items()} == {"a": 4, "b": 4}
    for label, seconds in (("a", TICK), ("b", TICK / 4)):
        for block in blocks[label]:
            assert block.samples_seconds == pytest.approx([seconds] * len(block.samples_seconds))
            assert block.accepted
            assert block.slowdown == 0.0


@pytest.mark.parametrize(
    ("seconds", "count"),
    [(TICK, 3), (TICK / 2, 6), (TICK * 0.7, 5), (1.0, 3), (1e-6, 200), (0.0, 200)],
)
def test_a_block_is_as_long_as_asked_within_limits(seconds: float, count: int) -> None:
    blocks = FakeMachine({"a": seconds}).time(rounds=3)["a"]
    assert {len(block.samples_seconds) for block in blocks} == {count}


@pytest.mark.parametrize("warmup_runs", [0, 1, 5])
def test_warm_up_runs_are_run_before_each_block_and_not_counted(warmup_runs: int) -> None:
    machine = FakeMachine({"a": TICK})
    blocks = machine.time(rounds=3, warmup_runs=warmup_runs)["a"]
    # the settling in and three blocks of three samples
    assert machine.calls.count("a") == 4 * (3 + warmup_runs)
    assert sum(len(block.samples_seconds) for block in blocks) == 9


def test_every_round_starts_with_another_file() -> None:
    machine = FakeMachine({"a": TICK, "b": TICK, "c": TICK})
    machine.time(rounds=4)
    assert machine.blocks_in_order() == list("abcbcacababc")


def test_between_any_two_blocks_stands_a_canary() -> None:
    machine = FakeMachine({"a": TICK, "b": TICK})
    machine.time(rounds=3)
    assert machine.calls.count("canary") == 3 * 2 + 1
    assert machine.calls[-1] == "canary"


def test_a_throttled_machines_rounds_are_discarded_counted_and_made_up_for() -> None:
    # one reading, then three a round: the second round is throttled from its second file on
    machine = FakeMachine({"a": TICK, "b": TICK, "c": TICK}, DISTURBED)
    blocks = machine.time(rounds=4)
    assert {len(taken) for taken in blocks.values()} == {6}  # four good rounds and two bad ones
    accepted = {label: [block.accepted for block in taken] for label, taken in blocks.items()}
    # the second round runs b, c, a; the third c, a, b: it starts beside a throttled reading
    assert accepted["b"] == [True, True, True, True, True, True]
    assert accepted["c"] == [True, False, False, True, True, True]
    assert accepted["a"] == [True, False, True, True, True, True]
    assert blocks["c"][1].slowdown == pytest.approx(1.5)
    # the samples are kept: nothing is lost, it only counts nowhere
    assert blocks["a"][1].samples_seconds == pytest.approx([2.5 * TICK] * 3)


def test_a_disturbance_of_less_than_five_percent_counts() -> None:
    machine = FakeMachine({"a": TICK}, [1, 1.049, 1.051, 1])
    accepted = [block.accepted for block in machine.time(rounds=3)["a"]]
    assert accepted == [True, False, False, True, True]


def test_a_machine_that_becomes_quiet_later_disqualifies_what_came_before() -> None:
    """The first rounds looked undisturbed only until the machine showed its best."""
    machine = FakeMachine({"a": TICK}, [2.0, 2.0, 2.0, 1.0])
    blocks = machine.time(rounds=3)["a"]
    assert [block.accepted for block in blocks] == [False, False, False, True, True, True]


def test_the_time_limit_ends_it_on_a_machine_that_is_never_quiet() -> None:
    restless = [1.0] + [3.0, 1.0] * 1000
    machine = FakeMachine({"a": TICK, "b": TICK}, restless)
    blocks = machine.time(rounds=4, max_seconds=2.0)
    assert not any(block.accepted for taken in blocks.values() for block in taken)
    # stopped after the first round that ended beyond the limit, and only between rounds
    assert 2.0 < machine.now < 2.5
    assert len(blocks["a"]) == len(blocks["b"]) > 1


def test_what_came_before_a_lasting_disturbance_counts() -> None:
    machine = FakeMachine({"a": TICK}, [1.0, 1.0, 1.0] + [2.5] * 1000)
    blocks = machine.time(rounds=4, max_seconds=2.0)["a"]
    assert [block.accepted for block in blocks[:2]] == [True, True]
    assert len(blocks) > 2
    assert not any(block.accepted for block in blocks[2:])


def test_as_many_rounds_as_an_interval_needs_are_taken_however_short_the_time_limit() -> None:
    machine = FakeMachine({"a": 5.0, "b": 5.0})
    blocks = machine.time(rounds=10, max_seconds=0.1)
    assert {label: len(taken) for label, taken in blocks.items()} == {"a": 3, "b": 3}


def interrupted_in_round(machine: FakeMachine, number: int) -> dict[str, Callable[[], None]]:
    """Files of a machine; another process takes the core within one block of the second."""
    runs = machine.runs()
    calls = itertools.count()

    def interrupted() -> None:
        runs["b"]()
        # settling in: 1 + 3 runs; then one to warm up and three samples a round
        machine.interruptions += next(calls) == 4 + 4 * number + 2

    return {"a": runs["a"], "b": interrupted}


@pytest.mark.parametrize("discard", [True, False])
def test_an_interrupted_block_counts_for_the_median_only(discard: bool) -> None:
    machine = FakeMachine({"a": TICK, "b": TICK})
    blocks = time_interleaved(
        interrupted_in_round(machine, 2),
        TimingSettings(
            rounds=4, block_seconds=3 * TICK, warmup_runs=1, discard_interrupted=discard
        ),
        machine, clock=machine.clock, interruptions=lambda: machine.interruptions,
    )  # fmt: skip
    assert [b.interruptions for b in blocks["b"][:4]] == [0, 0, 1, 0]
    assert all(b.interruptions == 0 and b.accepted for b in blocks["a"])
    assert [b.accepted for b in blocks["b"][:4]] == [True, True, not discard, True]
    # what is discarded is made up for
    assert len(blocks["a"]) == len(blocks["b"]) == (5 if discard else 4)


def test_an_interruption_of_this_process_is_counted() -> None:
    before = involuntary_switches()
    end = time.monotonic() + 30
    core = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    mine = os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", busy]) as rival:
        try:
            os.sched_setaffinity(0, {core})
            while involuntary_switches() == before and time.monotonic() < end:
                sum(range(1000))
        finally:
            os.sched_setaffinity(0, mine)
            rival.kill()
    assert involuntary_switches() > before


def test_a_file_that_fails_ends_the_timing() -> None:
    machine = FakeMachine({"a": TICK})

    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        time_interleaved(
            {**machine.runs(), "b": broken}, TimingSettings(), machine, clock=machine.clock
        )


@pytest.mark.parametrize(
    "wrong",
    [{"rounds": 2}, {"block_seconds": 0}, {"warmup_runs": -1}, {"max_seconds": 0}, {"blocks": 3}],
)
def test_settings_that_measure_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TimingSettings.model_validate(wrong)


def test_real_canaries_know_the_machine_at_its_best() -> None:
    canaries = Canaries()
    readings = [canaries.read() for _ in range(3)]
    best = canaries.best()
    for name in ("fma_seconds", "stream_seconds", "scalar_seconds"):
        taken = [getattr(reading, name) for reading in readings]
        assert 0 < min(taken) <= getattr(best, name) <= max(taken)
