"""Interleaved timing: rounds of blocks, a canary reading between any two."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from autosparse.evaluation.canaries import TOLERANCE
from autosparse.evaluation.measurement import Block, CanaryReading

Clock = Callable[[], float]


class TimingSettings(BaseModel):
    """How long and how often to time."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rounds: Annotated[int, Field(ge=2)] = 10
    """Undisturbed rounds to collect; in a round every file is timed once."""
    block_seconds: Annotated[float, Field(gt=0)] = 0.03
    """Length of one file's block within a round."""
    warmup_runs: Annotated[int, Field(ge=0)] = 3
    """Untimed inferences before each block."""
    max_seconds: Annotated[float, Field(gt=0)] = 20.0
    """Stop collecting after this long, disturbed or not."""


class CanarySource(Protocol):
    """What `Canaries` does, so that tests can play a throttling machine."""

    def read(self) -> CanaryReading:
        """Run the canaries once."""

    def best(self) -> CanaryReading:
        """The quietest state seen so far."""


_MIN_SAMPLES, _MAX_SAMPLES = 3, 200


def time_interleaved(
    runs: Mapping[str, Callable[[], object]],
    settings: TimingSettings,
    canaries: CanarySource,
    clock: Clock = time.perf_counter,
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
    samples: dict[str, list[tuple[float, ...]]] = {label: [] for label in labels}
    beside: dict[str, list[tuple[CanaryReading, CanaryReading]]] = {label: [] for label in labels}
    before = canaries.read()
    rounds = 0
    while _undisturbed(beside, canaries.best()) < settings.rounds:
        if rounds and clock() - start > settings.max_seconds:
            break
        shift = rounds % len(labels)
        for label in labels[shift:] + labels[:shift]:
            taken = _take_block(runs[label], counts[label], settings.warmup_runs, clock)
            after = canaries.read()
            samples[label].append(taken)
            beside[label].append((before, after))
            before = after
        rounds += 1
    best = canaries.best()
    return {
        label: tuple(
            _block(taken, pair, best)
            for taken, pair in zip(samples[label], beside[label], strict=True)
        )
        for label in labels
    }


def _samples_per_block(run: Callable[[], object], settings: TimingSettings, clock: Clock) -> int:
    """How many samples fill a block; the first runs also warm the file up."""
    taken = _take_block(run, _MIN_SAMPLES, settings.warmup_runs, clock)
    fastest = max(min(taken), 1e-9)
    return min(max(math.ceil(settings.block_seconds / fastest), _MIN_SAMPLES), _MAX_SAMPLES)


def _take_block(
    run: Callable[[], object], count: int, warmup_runs: int, clock: Clock
) -> tuple[float, ...]:
    for _ in range(warmup_runs):
        run()
    taken: list[float] = []
    for _ in range(count):
        start = clock()
        run()
        taken.append(clock() - start)
    return tuple(taken)


def _slowdown(pair: tuple[CanaryReading, CanaryReading], best: CanaryReading) -> float:
    return max(reading.slowdown(best) for reading in pair)


def _undisturbed(
    beside: Mapping[str, list[tuple[CanaryReading, CanaryReading]]], best: CanaryReading
) -> int:
    """Rounds in which no block of any file was disturbed."""
    rounds = zip(*beside.values(), strict=True)
    return sum(all(_slowdown(pair, best) <= TOLERANCE for pair in pairs) for pairs in rounds)


def _block(
    taken: tuple[float, ...], pair: tuple[CanaryReading, CanaryReading], best: CanaryReading
) -> Block:
    slowdown = _slowdown(pair, best)
    return Block(samples_seconds=taken, slowdown=slowdown, accepted=slowdown <= TOLERANCE)
