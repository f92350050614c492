"""A closer look: where noise hides an answer, the files are timed again, and the rounds pooled."""

from __future__ import annotations

from collections.abc import Callable

from autosparse.errors import CandidateError
from autosparse.evaluation import Comparison, Interval
from autosparse.pipeline.job import Job

MOST_RUNS = 4
"""Runs of one pair of files, the first included. Each further one has as many rounds as all before
it together, so that the last leaves eight times the first's, and an interval about a third as
wide: what is hidden then is too near to the bound to be told at all."""


def closer_look(
    job: Job,
    found: Comparison,
    hides: Callable[[Interval], bool],
    again: Callable[[int], Comparison],
    runs: int = 1,
    *,
    told: bool = True,
) -> Comparison:
    """Time a pair of files again while its interval hides the answer and the job has time.

    It ends as soon as either answer is clear, so it favours neither.

    Args:
        job: whose time it takes.
        found: what was measured of the pair.
        hides: whether an interval of the ratio leaves the answer open.
        again: times the pair in so many rounds.
        runs: how many runs `found` is from.
        told: whether whoever waits is told. Trials lie near the bound on purpose.

    Returns:
        All rounds together. Where a further run fails, those of the runs before it.
    """
    note = job.engines.progress.note if told else _untold
    for _ in range(runs, MOST_RUNS):
        interval = found.ratio_interval(job.config.percentile)
        if job.time_is_up or not hides(interval):
            break
        rounds = found.undisturbed_rounds
        note(
            f"noise hides the answer: {found.candidate.label} takes {interval.low:.1%} to "
            f"{interval.high:.1%} of the baseline's latency; {rounds} more rounds are taken"
        )
        try:
            found = found.pooled(again(rounds))
        except CandidateError as error:
            note(f"it stays hidden: {error}")
            break
    return found


def _untold(text: str) -> None:
    """Tell nobody."""
