"""Files of several processes timed against each other: turns, with canaries between any two."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from autosparse.evaluation import Measurement, TimingSettings, read_environment
from autosparse.evaluation.canaries import TOLERANCE
from autosparse.evaluation.measurement import FEWEST_ROUNDS, Block, CanaryReading
from autosparse.evaluation.quiet_state import quietest

_FEWEST_SAMPLES, _MOST_SAMPLES = 3, 200


class Timed(Protocol):
    """A process that runs files it has opened."""

    def run(self, label: str, count: int, warmup: int) -> tuple[float, ...]:
        """Seconds of `count` inferences, after some that are not timed."""


class CanaryProcess(Protocol):
    """A process that reads the canaries on the cores that are timed."""

    def canaries(self) -> CanaryReading:
        """Run them once."""


@dataclass(frozen=True)
class Contestant:
    """One opened file of one process."""

    label: str
    process: Timed


@dataclass(frozen=True)
class _Turn:
    samples: tuple[float, ...]
    before: CanaryReading
    after: CanaryReading

    def slowdown(self, best: CanaryReading) -> float:
        return max(reading.slowdown(best) for reading in (self.before, self.after))


def take_turns(
    contestants: Sequence[Contestant], canary: CanaryProcess, settings: TimingSettings
) -> dict[str, Measurement]:
    """Time every contestant in rounds until enough were undisturbed, or time is up.

    Only one process works at a time; the others wait for their pipe. Each round starts with
    another contestant.
    """
    counts = {c.label: _samples_per_turn(c, settings) for c in contestants}
    turns: dict[str, list[_Turn]] = {c.label: [] for c in contestants}
    readings = [canary.canaries()]
    start, rounds = time.monotonic(), 0
    while _undisturbed(turns, _best(readings)) < settings.rounds:
        if rounds >= FEWEST_ROUNDS and time.monotonic() - start > settings.max_seconds:
            break
        shift = rounds % len(contestants)
        for one in [*contestants[shift:], *contestants[:shift]]:
            samples = one.process.run(one.label, counts[one.label], settings.warmup_runs)
            readings.append(canary.canaries())
            turns[one.label].append(_Turn(samples, readings[-2], readings[-1]))
        rounds += 1
    best, environment = _best(readings), read_environment().id
    return {
        label: Measurement(
            label=label,
            file_sha256="",  # not every engine tells what it read
            target=f"{len(contestants)} files in turns",
            environment=environment,
            warmup_runs=settings.warmup_runs,
            blocks=tuple(_block(turn, best) for turn in taken),
        )
        for label, taken in turns.items()
    }


def _samples_per_turn(one: Contestant, settings: TimingSettings) -> int:
    """How many samples fill a turn; the first ones also warm the file up."""
    fastest = min(one.process.run(one.label, _FEWEST_SAMPLES, settings.warmup_runs))
    wanted = math.ceil(settings.block_seconds / max(fastest, 1e-9))
    return min(max(wanted, _FEWEST_SAMPLES), _MOST_SAMPLES)


def _block(turn: _Turn, best: CanaryReading) -> Block:
    slowdown = turn.slowdown(best)
    return Block(samples_seconds=turn.samples, slowdown=slowdown, accepted=slowdown <= TOLERANCE)


def _undisturbed(turns: Mapping[str, list[_Turn]], best: CanaryReading) -> int:
    rounds = zip(*turns.values(), strict=True)
    return sum(all(turn.slowdown(best) <= TOLERANCE for turn in one) for one in rounds)


def _best(readings: Sequence[CanaryReading]) -> CanaryReading:
    return quietest([reading.seconds for reading in readings])
