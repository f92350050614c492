"""Turns of processes, with a machine that throttles on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autosparse.evaluation import TimingSettings
from autosparse.evaluation.measurement import CanaryReading
from benchmarks.duel import Contestant, take_turns

SETTINGS = TimingSettings(rounds=3, block_seconds=0.01, warmup_runs=1, max_seconds=5.0)


@dataclass
class Machine:
    """Plays the engines and the canaries; throttled within the given turns."""

    throttled: Sequence[int] = ()
    ran: list[str] = field(default_factory=list)
    turns: int = -2  # each of two contestants runs once before its turns begin

    def run(self, label: str, count: int, warmup: int) -> tuple[float, ...]:
        self.ran.append(label)
        self.turns += 1
        return (1e-3 if label == "ours" else 2e-3,) * count

    def canaries(self) -> CanaryReading:
        seconds = 2.0 if self.turns in self.throttled else 1.0
        return CanaryReading(fma_seconds=seconds, stream_seconds=1.0, scalar_seconds=1.0)


def contestants(machine: Machine) -> list[Contestant]:
    return [Contestant("ours", machine), Contestant("theirs", machine)]


def test_a_turn_is_as_long_as_a_block() -> None:
    machine = Machine()
    taken = take_turns(contestants(machine), machine, SETTINGS)
    assert [len(b.samples_seconds) for b in taken["ours"].blocks] == [10] * 3
    assert [len(b.samples_seconds) for b in taken["theirs"].blocks] == [5] * 3


def test_every_round_begins_with_another() -> None:
    machine = Machine()
    take_turns(contestants(machine), machine, SETTINGS)
    assert machine.ran[2:] == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_disturbed_round_counts_for_nobody_and_is_made_up_for() -> None:
    machine = Machine(throttled=(1,))
    taken = take_turns(contestants(machine), machine, SETTINGS)
    ours, theirs = taken["ours"].blocks, taken["theirs"].blocks
    # the reading after the first turn stands before the second, too
    assert [block.accepted for block in ours][:2] == [False, True]
    assert theirs[0].accepted is False
    assert sum(a.accepted and b.accepted for a, b in zip(ours, theirs, strict=True)) == 3


def test_a_machine_that_never_rests_ends_the_run() -> None:
    machine = Machine(throttled=tuple(range(0, 10**6, 2)))
    settings = SETTINGS.model_copy(update={"max_seconds": 0.05})
    taken = take_turns(contestants(machine), machine, settings)
    assert taken["ours"].blocks
