"""A whole search, whose evaluations sleep on workers: rounds, trials and all.

Everything is real but the model, which is a planted one, and what an evaluation takes. It sleeps
on a worker for its time and is answered here within a millisecond, so that busy cores make no
difference. Timing on the target takes no time: what is looked at is what evaluation leaves idle.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from autosparse.errors import CandidateError
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.pool import A, InProcess, K, Pool, Task
from autosparse.pipeline.scoring import AllRows, FewRows
from autosparse.pipeline.workspace import Workspace
from benchmarks.rows import Row, ratio_of
from benchmarks.sleeping import Sleep, SleepingKit
from tests.pipeline.worlds import odd_world

_LAYERS = 16
_BUDGET = "60%"
_TWO_OVER_ONE = 1.7


@dataclass(frozen=True)
class TimedSearch:
    """What a search took, and came to."""

    seconds: float
    trials: tuple[str, ...]
    """Recipes that were measured, in order."""


@dataclass
class SlowEvaluations:
    """Implements `Pool`: evaluations take their time on workers; everything is answered here."""

    workers: Pool
    kit: SleepingKit
    seconds: float
    evaluations: int = 0
    """How many there were."""
    sees_files: bool = True

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        """See `Pool.run`."""
        asked = list(tasks)
        slow = sum(isinstance(task, FewRows | AllRows) for task in asked)
        self.evaluations += slow
        self.workers.run(self.kit, [Sleep(self.seconds)] * slow)
        return InProcess().run(kit, asked)


def timed_search(directory: Path, workers: Pool, trials: int, seconds: float) -> TimedSearch:
    """Search a planted model.

    Args:
        directory: for its files.
        workers: where evaluations sleep.
        trials: of the search, those of the starts included.
        seconds: that an evaluation takes.
    """
    shutil.rmtree(directory, ignore_errors=True)
    world = odd_world(directory, _LAYERS)
    pool = SlowEvaluations(workers, SleepingKit(directory), seconds)
    started = time.perf_counter()
    world.run(
        engines=replace(world.engines(), pool=pool), latency_budget=_BUDGET, max_drop="50pt",
        trials=trials,
    )  # fmt: skip
    took = time.perf_counter() - started
    ledger = Ledger(Workspace(directory / "out").study)
    return TimedSearch(took, tuple(record.recipe.id for record in ledger.records))


def search_row(one: TimedSearch, two: TimedSearch, environment: str) -> Row:
    """A search on one worker against the same one on two."""
    ratio = ratio_of(one.seconds, two.seconds)
    same = one.trials == two.trials
    return Row(
        what="a whole search whose evaluations sleep: one worker's time over two workers'",
        figure=one.seconds, unit="s", opponent="two workers", opponent_figure=two.seconds,
        ratio=ratio, bar=f">= {_TWO_OVER_ONE}, by the same trials",
        holds=same and ratio is not None and ratio >= _TWO_OVER_ONE, environment=environment,
        note=f"{len(one.trials)} trials, {'the same ones' if same else 'others with two workers'}; "
        "timing on the target takes no time here, and a trial's own evaluation has one worker",
    )  # fmt: skip
