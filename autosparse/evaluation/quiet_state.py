"""The machine's quiet state: what its measurements saw of it, beyond one process.

A process that begins to measure while the machine is throttled takes that for the quiet state, and
accepts every block of a throttled run. So whoever asks remembers what each measurement saw at its
best, and says it with the next request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from autosparse.evaluation.measurement import CanaryReading

Seconds = tuple[float, float, float]
"""Of the three canaries."""
MEMORY_SECONDS = 3600.0
"""What was seen longer ago is forgotten: a machine may have changed for good."""
MOST_SEEN = 20
"""Measurements that are remembered. Of more than ten the best one is left aside, since it may have
been too good to be true. Where the machine changed for good, the new state is believed after at
most so many measurements that were refused: more than anyone waits for, and not for ever."""
_BEST_PERCENTILE = 10
# The same workload differs by as much between two processes of one machine: by where its arrays
# lie in memory, and by the clock of the minute. A throttled vector unit is slower by a factor.
_BETWEEN_PROCESSES = 1.10


class QuietState(BaseModel):
    """The canaries of some cores at their best."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    best: CanaryReading
    """Seconds of each canary."""
    cores: tuple[int, ...]
    """Where they ran: cores of one machine may differ, in kind or in their neighbours."""


class SeenState(QuietState):
    """What one measurement saw."""

    threads: int
    """Of the target: how many cores were wanted."""
    at: float
    """When, in seconds since 1970."""


def quietest(
    readings: Sequence[Seconds], method: Literal["linear", "lower"] = "linear"
) -> CanaryReading:
    """Each canary's 10th percentile: the single fastest reading is itself an outlier.

    Args:
        readings: seconds of the canaries.
        method: what it is between two readings: their mix, or the lower one.
    """
    best = np.percentile(readings, _BEST_PERCENTILE, axis=0, method=method)
    return CanaryReading.of(map(float, best))


def quieter(one: CanaryReading, other: CanaryReading) -> CanaryReading:
    """The better of each canary."""
    return CanaryReading.of(map(min, one.seconds, other.seconds))


def remembered(seen: Sequence[SeenState], now: float) -> list[SeenState]:
    """What still counts of what was seen: the latest ones of the last hour, in their order."""
    return [state for state in seen if 0.0 <= now - state.at <= MEMORY_SECONDS][-MOST_SEEN:]


def quiet_state(seen: Sequence[SeenState], threads: int, now: float) -> QuietState | None:
    """What another process is to be held to; None where nothing is remembered.

    Args:
        seen: what measurements saw, in their order.
        threads: of the target.
        now: seconds since 1970.
    """
    alike = [state for state in remembered(seen, now) if state.threads == threads]
    if not alike:
        return None
    cores = alike[-1].cores
    # of few, the best: a mix would yield a little to every measurement that was refused
    best = quietest([state.best.seconds for state in alike if state.cores == cores], "lower")
    allowed = CanaryReading.of(seconds * _BETWEEN_PROCESSES for seconds in best.seconds)
    return QuietState(best=allowed, cores=cores)
