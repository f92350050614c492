"""The stopwatch: files timed on a target patiently, and their latency attributed to nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from autosparse.errors import DisturbedError, KilledError
from autosparse.evaluation import (
    Comparison,
    LoweredModel,
    Measurement,
    MeasurementLane,
    Percentile,
    Target,
    TimingSettings,
)
from autosparse.evaluation.backend import NodeTime
from autosparse.evaluation.canaries import TOLERANCE
from autosparse.evaluation.measurement import FEWEST_ROUNDS
from autosparse.evaluation.quiet_state import MEMORY_SECONDS
from autosparse.heap import return_freed_memory
from autosparse.pipeline.progress import Progress

T = TypeVar("T")

BASELINE_LABEL = "baseline"
_ATTEMPTS = 3
_PROFILE_RUNS = 100
_QUICK = TimingSettings(rounds=4, block_seconds=0.02, max_seconds=10.0)
_PATIENCE = (
    "stop other work on this machine and try again; a job goes on with --resume. Where the machine "
    f"is slower for good, what it was is forgotten after {MEMORY_SECONDS / 60:.0f} minutes"
)


@dataclass(frozen=True)
class AttributedTime:
    """A file's measured latency, divided among its nodes."""

    nodes: tuple[NodeTime, ...]
    """Every executed node with its share of the latency, in seconds."""
    comparison: Comparison
    """The file against the model as it came, from one interleaved run."""

    @property
    def seconds(self) -> dict[str, float]:
        """Executed node -> its share of the latency, in seconds."""
        return {time.node: time.seconds for time in self.nodes}


@dataclass(frozen=True)
class Stopwatch:
    """Everything that timing a file takes."""

    lane: MeasurementLane
    progress: Progress
    target: Target
    inputs: Path
    """One inference's inputs."""
    percentile: Percentile = "p50"

    def measure(
        self, files: Mapping[str, LoweredModel], settings: TimingSettings, *, fresh: bool = False
    ) -> dict[str, Measurement]:
        """Measure, and again where too few rounds count: throttling lasts tens of seconds.

        What counts are rounds in which no file was disturbed, of all attempts together. At least
        three are needed, and at least half of those that were asked for, or that one attempt had
        time for where the files are slow.

        Raises:
            MeasurementError: a file does not run.
            DisturbedError: the machine never became quiet.
        """
        # the median hardly moves when another process takes the core for a moment; a p95 is that
        # moment
        settings = settings.model_copy(update={"discard_interrupted": self.percentile != "p50"})
        # the process that measures holds whole sessions: this one keeps nothing that it freed
        return_freed_memory()
        measured: dict[str, Measurement] = {}
        for attempt in range(_ATTEMPTS):
            # in a process of its own: where the pages of the last one lie in memory may be what
            # disturbs it, and stays so as long as it lives
            anew = fresh or attempt > 0
            latest = self._despite_kills(
                partial(self.lane.measure, files, self.inputs, self.target, settings, fresh=anew)
            )
            measured = {
                label: measured[label].pooled(found) if label in measured else found
                for label, found in latest.items()
            }
            whole, needed = _whole_rounds(measured), _needed_rounds(latest, settings)
            if whole >= needed:
                return measured
            self.progress.note(
                f"{whole} rounds of samples were undisturbed and {needed} are needed: attempt "
                f"{attempt + 1} of {_ATTEMPTS}{_how_slow(measured)}"
            )
        what = (
            f"only {whole} of {_rounds(measured)} rounds of samples were undisturbed, and {needed} "
            "are needed"
            if whole
            else "every round of samples was disturbed"
        )
        raise DisturbedError(what + _how_slow(measured), hint=_PATIENCE)

    def attribute(self, model: LoweredModel, original: LoweredModel) -> AttributedTime:
        """Time a file beside the model as it came, and divide its latency among its nodes.

        Raises:
            MeasurementError: as for `measure`.
        """
        timed = self.measure({BASELINE_LABEL: original, "uniform": model}, _QUICK)
        comparison = Comparison(baseline=timed[BASELINE_LABEL], candidate=timed["uniform"])
        return AttributedTime(self.divide(model, comparison.candidate), comparison)

    def divide(self, model: LoweredModel, measured: Measurement) -> tuple[NodeTime, ...]:
        """A file's nodes with their shares of its median latency.

        A runtime's profiler slows every node a little and rounds; its times are used as shares
        of the latency that was measured without it.
        """
        total = measured.percentile_seconds("p50")
        times = self._despite_kills(
            partial(self.lane.profile, model, self.inputs, self.target, runs=_PROFILE_RUNS)
        )
        profiled = sum(time.seconds for time in times)
        scale = total / profiled if profiled > 0 else 0.0
        return tuple(t.model_copy(update={"seconds": t.seconds * scale}) for t in times)

    def _despite_kills(self, ask: Callable[[], T]) -> T:
        """Ask again where what measures was killed: that need not be the files' fault."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return ask()
            except KilledError as error:
                self.progress.note(f"{error.message}; once more")
        return ask()


def _how_slow(measured: Mapping[str, Measurement]) -> str:
    """Whether it was slow throughout, as a machine is that is throttled or has changed for good."""
    least = min(block.slowdown for m in measured.values() for block in m.blocks)
    if least <= TOLERANCE:
        return ""
    return f"; its canaries ran at least {least:.0%} slower than this machine's quiet state"


def _rounds(measured: Mapping[str, Measurement]) -> int:
    """Rounds that were taken; every file has a block in each."""
    return min(len(m.blocks) for m in measured.values())


def _whole_rounds(measured: Mapping[str, Measurement]) -> int:
    """Rounds in which every file's samples count."""
    rounds = zip(*(m.blocks for m in measured.values()), strict=True)
    return sum(all(block.accepted for block in blocks) for blocks in rounds)


def _needed_rounds(measured: Mapping[str, Measurement], settings: TimingSettings) -> int:
    """How many must be whole; a slow file's time was up before all that were asked for."""
    taken = min(settings.rounds, _rounds(measured))
    return max(FEWEST_ROUNDS, math.ceil(taken / 2))
