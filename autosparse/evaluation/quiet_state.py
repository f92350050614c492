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
MOST_SEEN = 12
"""Measurements that are remembered. Of more than ten the best one is left aside, since it may have
been too good to be true. Where the machine changed for good, the new state is believed after at
most so many measurements that were refused: some minutes, which is longer than throttling lasts,
and three or four starts of a job."""
_BEST_PERCENTILE = 10
# A clock may be so much slower than it was: a boost clock comes and goes, it slows everything
# alike, and that cancels in a ratio.
_CLOCK = 1.10
# Vector units may be so much slower than it was beside scalar ones. Between processes of one quiet
# machine that differs by 1 to 2 %; where they are throttled, by a factor.
_VECTOR_UNITS = 1.03


# Between two states of vector units lies more than between two processes in one of them.
_ANOTHER_STATE = 1.08


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


def held_to(own: CanaryReading, known: CanaryReading) -> CanaryReading:
    """What a process must do as well as to be undisturbed.

    Its own best, or what is known from others where that is better by more than two processes
    differ. How fast a second-level cache is streamed through depends on where a process's pages lie
    in it, by some 5 % from one process to the next: of that its own best is all there is.

    Args:
        own: the best of the process itself.
        known: the best of earlier ones on the same cores.
    """
    clock = own.scalar_seconds / known.scalar_seconds
    return CanaryReading(
        fma_seconds=min(own.fma_seconds, known.fma_seconds * min(clock * _VECTOR_UNITS, _CLOCK)),
        stream_seconds=own.stream_seconds,
        scalar_seconds=min(own.scalar_seconds, known.scalar_seconds * _CLOCK),
    )


def is_same_state(pace: float | None, other: float | None) -> bool:
    """Whether vector units were in the same state, from two `vector_pace`s.

    Machines that others share have several, for tens of minutes each, and a file's share of the
    baseline's latency differs between them: what is unknown passes for the same.
    """
    if pace is None or other is None:
        return True
    return 1 / _ANOTHER_STATE <= pace / other <= _ANOTHER_STATE


def change_words(then: float | None, now: float | None, when: str) -> str:
    """A clause that says how vector units changed; empty where they did not.

    Args:
        then: `vector_pace` of what is compared with.
        now: of what was measured last.
        when: in words, when `then` was: "in the trial".
    """
    if then is None or now is None or is_same_state(then, now):
        return ""
    factor, other = (now / then, "slower") if now > then else (then / now, "faster")
    return (
        f"the machine's vector units were {factor:.2f} times {other} than {when}, which changes "
        "shares of the baseline's latency, too"
    )


def remembered(seen: Sequence[SeenState], now: float) -> list[SeenState]:
    """What still counts of what was seen: the latest ones of the last hour, in their order."""
    return [state for state in seen if 0.0 <= now - state.at <= MEMORY_SECONDS][-MOST_SEEN:]


def quiet_state(seen: Sequence[SeenState], threads: int, now: float) -> QuietState | None:
    """The quiet state of a machine, as far as it is remembered; None where nothing is.

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
    return QuietState(best=best, cores=cores)
