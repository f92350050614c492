"""Interleaved timing: rounds of blocks, a canary reading between any two."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from autosparse.evaluation.canaries import TOLERANCE
from autosparse.evaluation.measurement import FEWEST_ROUNDS, Block, CanaryReading

Clock = Callable[[], float]


class TimingSettings(BaseModel):
    """How long and how often to time."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rounds: Annotated[int, Field(ge=FEWEST_ROUNDS)] = 10
    """Undisturbed rounds to collect; in a round every file is timed once."""
    block_seconds: Annotated[float, Field(gt=0)] = 0.03
    """Length of one file's block within a round."""
    warmup_runs: Annotated[int, Field(ge=0)] = 3
    """Untimed inferences before each block."""
    max_seconds: Annotated[float, Field(gt=0)] = 20.0
    """Stop collecting after this long, disturbed or not; but not before as many rounds were taken
    as an interval needs, however slow the files are."""
    discard_interrupted: bool = False
    """Whether a block counts only if no other process took the core meanwhile: for percentiles
    above the median. Canaries stand beside a block, and see nothing of a moment within it."""


class CanarySource(Protocol):
    """What `Canaries` does, so that tests can play a throttling machine."""

    def read(self) -> CanaryReading:
        """Run the canaries once."""

    def best(self) -> CanaryReading:
        """The quietest state seen so far."""


_MIN_SAMPLES, _MAX_SAMPLES = 3, 200
# Clocks tick in nanoseconds: further digits are those of a subtraction, and half of a file.
_DIGITS, _DIGITS_OF_SHARES = 9, 6


def involuntary_switches() -> int:
    """How often this process, all its threads, was interrupted in favour of another so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@dataclass(frozen=True)
class _Taken:
    """One block as it was taken; whether it counts depends on the canaries' best, known later."""

    samples: tuple[float, ...]
    interruptions: int
    before: CanaryReading
    after: CanaryReading

    def slowdown(self, best: CanaryReading) -> float:
        return max(reading.slowdown(best) for reading in (self.before, self.after))

    def counts(self, best: CanaryReading, settings: TimingSettings) -> bool:
        interrupted = settings.discard_interrupted and self.interruptions > 0
        return self.slowdown(best) <= TOLERANCE and not interrupted


def time_interleaved(
    runs: Mapping[str, Callable[[], object]],
    settings: TimingSettings,
    canaries: CanarySource,
    clock: Clock = time.perf_counter,
    interruptions: Callable[[], int] = involuntary_switches,
) -> dict[str, tuple[Block, ...]]:
    """Time every callable in rounds until enough rounds were undisturbed, or time is up.

    Each round starts with another file, so that none always follows the same neighbour. The k-th
    blocks of all files belong to the same round.

    Returns:
        Label -> its blocks, disturbed ones included (`accepted` is False).
    """
    start = clock()
    counts = {label: _samples_per_block(run, settings, clock) for label, run in runs.items()}
    labels = list(runs)
    blocks: dict[str, list[_Taken]] = {label: [] for label in labels}
    before = canaries.read()
    rounds = 0
    while _undisturbed(blocks, canaries.best(), settings) < settings.rounds:
        if rounds >= FEWEST_ROUNDS and clock() - start > settings.max_seconds:
            break
        shift = rounds % len(labels)
        for label in labels[shift:] + labels[:shift]:
            _warm_up(runs[label], settings)
            so_far = interruptions()
            samples = _take_samples(runs[label], counts[label], clock)
            interrupted = interruptions() - so_far
            after = canaries.read()
            blocks[label].append(_Taken(samples, interrupted, before, after))
            before = after
        rounds += 1
    best = canaries.best()
    return {
        label: tuple(
            Block(
                samples_seconds=taken.samples,
                slowdown=round(taken.slowdown(best), _DIGITS_OF_SHARES),
                interruptions=taken.interruptions,
                accepted=taken.counts(best, settings),
            )
            for taken in blocks[label]
        )
        for label in labels
    }


def _samples_per_block(run: Callable[[], object], settings: TimingSettings, clock: Clock) -> int:
    """How many samples fill a block; the first runs also warm the file up."""
    _warm_up(run, settings)
    taken = _take_samples(run, _MIN_SAMPLES, clock)
    fastest = max(min(taken), 1e-9)
    return min(max(math.ceil(settings.block_seconds / fastest), _MIN_SAMPLES), _MAX_SAMPLES)


def _warm_up(run: Callable[[], object], settings: TimingSettings) -> None:
    for _ in range(settings.warmup_runs):
        run()


def _take_samples(run: Callable[[], object], count: int, clock: Clock) -> tuple[float, ...]:
    taken: list[float] = []
    for _ in range(count):
        start = clock()
        run()
        taken.append(round(clock() - start, _DIGITS))
    return tuple(taken)


def _undisturbed(
    blocks: Mapping[str, list[_Taken]], best: CanaryReading, settings: TimingSettings
) -> int:
    """Rounds in which no block of any file was disturbed."""
    rounds = zip(*blocks.values(), strict=True)
    return sum(all(taken.counts(best, settings) for taken in one) for one in rounds)
