"""How long another budget takes, from the level table of a job that is there.

Two moments count: when the answer is chosen, and when its bundle is verified. The second is a
measurement like any other, and takes as long as those do.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import autosparse
from autosparse.pipeline.resolve_config import ResolveConfig
from benchmarks.product_jobs import Spoken
from benchmarks.rows import Row, ratio_of

# "In seconds": where nothing further is measured, what is left is to open what the job has.
_MOST_SECONDS = 60.0
_USUAL_TRIALS: int = ResolveConfig.model_fields["trials"].default


class _Watch(Spoken):
    """Notes when the search had its answer: what follows is its verification."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__("resolve", say)
        self.begun = time.monotonic()
        self.answered: float | None = None

    def stage(self, name: str, detail: str = "") -> None:
        """The first verification begins behind the last choice."""
        super().stage(name, detail)
        if name == "verify" and self.answered is None:
            self.answered = self.seconds()

    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self.begun


def resolve_rows(
    name: str, base: Path, reach: float, environment: str, say: Callable[[str], None]
) -> Iterator[Row]:
    """Another budget with nothing further measured, and with as many trials as are usual.

    Args:
        name: of the model.
        base: output directory of a job that has the level table; it is only read.
        reach: latency of the fastest recipe over the baseline's; the budget is half-way to it.
        environment: that it was measured in.
        say: told what happens.
    """
    budget = f"{50 * (1 + min(reach, 1.0)):.1f}%"
    for trials in (0, _USUAL_TRIALS):
        output_dir = base.with_name(f"resolved-{trials}")
        shutil.rmtree(output_dir, ignore_errors=True)
        watch = _Watch(say)
        result = autosparse.resolve(
            base, latency_budget=budget, output_dir=output_dir, trials=trials, progress=watch
        )
        whole = watch.seconds()
        answered = whole if watch.answered is None else watch.answered
        yield timing_row(
            name, trials, answered, whole, environment,
            f"the budget {budget} is answered {result.verdict}, by {result.manifest.search.trials} "
            "trials in all; libraries were loaded before",
        )  # fmt: skip


def timing_row(
    name: str, trials: int, answered: float, whole: float, environment: str, note: str
) -> Row:
    """Both moments, in seconds; the bar is for an answer for which nothing further is measured."""
    has_bar = trials == 0
    return Row(
        what=f"{name}: another budget from the level table, {trials} further trials",
        figure=answered, unit="s", opponent="until its bundle is verified", opponent_figure=whole,
        ratio=ratio_of(answered, whole),
        bar=f"answered in {_MOST_SECONDS:g} s" * has_bar,
        holds=answered <= _MOST_SECONDS if has_bar else None, environment=environment, note=note,
    )  # fmt: skip
