"""Early verdict: is the budget out of reach? Measured with plain weights, before costly methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.errors import CandidateError
from autosparse.journal import Journal
from autosparse.levels.table import Cell
from autosparse.pipeline.baseline import Baseline
from autosparse.pipeline.feasibility import Descent, Fastest, find_fastest
from autosparse.pipeline.job import Job
from autosparse.pipeline.latency_training import untrained_predictor
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.recipe_space import space_of
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.table_building import FIRST_LEVELS, TableBuilder

# The descent knows no measured recipes yet and may end above the fastest one; a budget that is
# nearer than this to what it reached is left to the descent that does.
_CLEARLY = 1.1


@dataclass(frozen=True)
class OutOfReach:
    """The budget cannot be met, and how near one can get."""

    fastest: Fastest
    choices: tuple[Choice, ...]
    """What is worth building for an answer all the same."""
    note: str
    """What the report must tell."""


def early_verdict(
    job: Job, baseline: Baseline, builder: TableBuilder, choices: Sequence[Choice], bound: float
) -> OutOfReach | None:
    """Time the fastest levels before the costly weights are made; None where they may do.

    A table that has its costly levels is not asked: the search finds out by itself.

    Args:
        job: what all stages share.
        baseline: what every candidate is held against.
        builder: of the level table, with what anyone would try first in it.
        choices: which levels are there.
        bound: latency as a share of the baseline's that may be delivered.
    """
    missing = [c for c in choices if c.searched and not builder.table.find(c.layer.name, c.level)]
    if not missing or job.time_is_up:
        return None
    job.engines.progress.stage("early verdict", "is the budget within reach?")
    cells = list(builder.table.cells())
    for level in dict.fromkeys(choice.level for choice in missing):
        piloted = builder.pilots.cells([c for c in missing if c.level == level])
        cells.extend(piloted.values())
    fastest = _fastest(job, baseline, builder, cells, bound)
    if fastest is None or not fastest.is_final:
        return None
    percentile = job.config.percentile
    if fastest.comparison.ratio_interval(percentile).low <= bound * _CLEARLY:
        return None
    if not baseline.contract.surely_missed_by(fastest.comparison):
        return None
    ratio = fastest.comparison.ratio(percentile)
    note = (
        f"the budget is out of reach: the fastest levels together take {ratio:.1%} of the "
        f"baseline's latency, and it allows {bound:.1%}; other sparse levels were not made"
    )
    job.engines.progress.note(note)
    return OutOfReach(fastest, _needed(choices, fastest), note)


def _fastest(
    job: Job, baseline: Baseline, builder: TableBuilder, cells: Sequence[Cell], bound: float
) -> Fastest | None:
    """The fastest recipe of plain weights; None where it does not run as a whole."""
    space = space_of(job, cells, builder.knobs)
    seconds = baseline.contract.baseline_seconds
    predictor = untrained_predictor(job, cells, space, seconds)
    journal = Journal(builder.table.directory / "early_verdict.jsonl", MeasuredTrial)
    descent = Descent(
        job, builder.pilots.weights(), builder.ranges, baseline.environment.id, journal
    )
    try:
        return find_fastest(descent, space, predictor, bound)
    except CandidateError as error:  # the search finds out, more patiently
        job.engines.progress.note(f"no early verdict: {error}")
        return None


def _needed(choices: Sequence[Choice], fastest: Fastest) -> tuple[Choice, ...]:
    """The fastest recipe's levels, and what anyone would try first."""
    levels = fastest.recipe.levels
    return tuple(
        c
        for c in choices
        if c.level in FIRST_LEVELS or not c.runs or c.level == levels[c.layer.name]
    )
