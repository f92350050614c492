"""Early verdict: is the budget out of reach? Measured with plain weights, before costly methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.artifacts.manifest import Decision
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


class EarlyFinding(BaseModel):
    """What was found, as it was told: a resumed job whose levels are made does not ask again."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    told: str
    """The finding with its figures, or why there is none."""


@dataclass(frozen=True)
class EarlyVerdict:
    """What was found."""

    told: str
    """In a sentence; empty where a job of an earlier version asked."""
    out_of_reach: OutOfReach | None = None
    """None where the budget may be met."""

    @property
    def decision(self) -> Decision | None:
        """What the report tells of it."""
        return Decision(subject="Early verdict", told=self.told) if self.told else None


def early_verdict(
    job: Job, baseline: Baseline, builder: TableBuilder, choices: Sequence[Choice], bound: float
) -> EarlyVerdict:
    """Time the fastest levels before the costly weights are made: may they do?

    A table that has its costly levels is not asked: the search finds out by itself.

    Args:
        job: what all stages share.
        baseline: what every candidate is held against.
        builder: of the level table, with what anyone would try first in it.
        choices: which levels are there.
        bound: latency as a share of the baseline's that may be delivered.
    """
    journal = Journal(builder.table.directory / "early_findings.jsonl", EarlyFinding)
    known = [record.told for record in journal.records]
    missing = [c for c in choices if c.searched and not builder.table.find(c.layer.name, c.level)]
    if not missing:
        return EarlyVerdict(known[-1] if known else _nothing_costly(choices))
    if job.time_is_up:
        return EarlyVerdict(f"not asked: {job.why_no_time}")
    job.engines.progress.stage("early verdict", "is the budget within reach?")
    cells = list(builder.table.cells())
    for level in dict.fromkeys(choice.level for choice in missing):
        piloted = builder.pilots.cells([c for c in missing if c.level == level])
        cells.extend(piloted.values())
    try:
        fastest = _fastest(job, baseline, builder, cells, bound)
        found = _judged(job, baseline, fastest, choices, bound)
    except CandidateError as error:  # the search finds out, more patiently
        job.engines.progress.note(f"no early verdict: {error}")
        found = EarlyVerdict(f"none: {error}")
    if known[-1:] != [found.told]:
        journal.append(EarlyFinding(told=found.told))
    return found


def _nothing_costly(choices: Sequence[Choice]) -> str:
    costly = any(choice.searched and choice.level not in FIRST_LEVELS for choice in choices)
    return "" if costly else "not asked: no level takes long to make"


def _judged(
    job: Job, baseline: Baseline, fastest: Fastest, choices: Sequence[Choice], bound: float
) -> EarlyVerdict:
    """What the fastest recipe of plain weights says of the budget."""
    percentile = job.config.percentile
    ratio = fastest.comparison.ratio(percentile)
    took = (
        f"the fastest levels together take {ratio:.1%} of the baseline's latency, and it allows "
        f"{bound:.1%}"
    )
    if ratio <= bound:
        return EarlyVerdict(f"the budget is within reach: {took}")
    if not fastest.is_final:
        return EarlyVerdict(f"none, {job.why_no_time}: as far as was tried, {took}")
    clearly = fastest.comparison.ratio_interval(percentile).low > bound * _CLEARLY
    if not clearly or not baseline.contract.surely_missed_by(fastest.comparison):
        return EarlyVerdict(f"left to the search, the budget is missed by too little: {took}")
    note = f"the budget is out of reach: {took}; other sparse levels were not made"
    job.engines.progress.note(note)
    return EarlyVerdict(note, OutOfReach(fastest, _needed(choices, fastest), note))


def _fastest(
    job: Job, baseline: Baseline, builder: TableBuilder, cells: Sequence[Cell], bound: float
) -> Fastest:
    """The fastest recipe of plain weights.

    Raises:
        CandidateError: it does not run as a whole.
    """
    space = space_of(job, cells, builder.knobs)
    seconds = baseline.contract.baseline_seconds
    predictor = untrained_predictor(job, cells, space, seconds)
    journal = Journal(builder.table.directory / "early_verdict.jsonl", MeasuredTrial)
    descent = Descent(
        job, builder.pilots.weights(), builder.ranges, baseline.environment.id, journal
    )
    return find_fastest(descent, space, predictor, bound)


def _needed(choices: Sequence[Choice], fastest: Fastest) -> tuple[Choice, ...]:
    """The fastest recipe's levels, and what anyone would try first."""
    levels = fastest.recipe.levels
    return tuple(
        c
        for c in choices
        if c.level in FIRST_LEVELS or not c.runs or c.level == levels[c.layer.name]
    )
