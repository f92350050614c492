"""What an atlas tells a job of its kernels: plans that were measured as faster than the usual ones.

A job keeps what it took beside its level table, whose seconds were measured with it: what a later
run adds to the atlas is for later jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.journal import Journal, read_journal, stored_safely
from autosparse.levels import Level
from autosparse.levels.table import has_cells
from autosparse.pipeline.job import Job
from autosparse.pipeline.known_atlas import KnownAtlas
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.workshop import Plans

PLANS_FILE = "plans.jsonl"


class LayerPlan(BaseModel):
    """How one layer is computed at one level."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layer: str
    """Name of the layer."""
    level: Level
    """At what level; methods make no difference."""
    plan: str
    """In the backend's words."""


class JobPlans(BaseModel):
    """What a job took from its atlas, in one place."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    plans: tuple[LayerPlan, ...]
    """Of layers that are not computed as usual."""


def job_plans(job: Job, choices: Sequence[Choice], known: KnownAtlas | None) -> Plans:
    """The plans of every layer and level that the search may choose.

    Args:
        job: what all stages share.
        choices: which levels are there.
        known: the atlas, where there is one.

    Raises:
        StorageError: they cannot be kept.
    """
    directory = job.workspace.table / job.engines.lane.environment().id
    with stored_safely(directory):
        directory.mkdir(parents=True, exist_ok=True)
    journal = Journal(directory / PLANS_FILE, JobPlans)
    if not journal.records:
        # a table from before was measured with the usual ones
        found = () if known is None or has_cells(directory) else _found(job, choices, known)
        journal.append(JobPlans(plans=found))
    return plans_in(directory)


def plans_in(table: Path) -> Plans:
    """The plans that a level table was measured with; none where nobody chose any."""
    records = read_journal(table / PLANS_FILE, JobPlans)
    return {(p.layer, p.level): p.plan for p in records[-1].plans} if records else {}


def note_on_plans(plans: Plans) -> str:
    """What the report tells of them; empty where there are none."""
    layers = len({layer for layer, _ in plans})
    return (
        f"for {layers} of the layers, the kernels of some levels take another plan than the usual "
        "one: the atlas measured it as faster"
        if plans
        else ""
    )


def _found(job: Job, choices: Sequence[Choice], known: KnownAtlas) -> tuple[LayerPlan, ...]:
    """Plans of the atlas, but for words that the backend does not know (any more)."""
    plans: list[LayerPlan] = []
    for choice in choices:
        layer, level = choice.layer, choice.level.without_method()
        cell = known.find(layer.name, level)
        if choice.searched and cell is not None and cell.plan:
            if cell.plan in job.engines.backend.plans(layer, level):
                plans.append(LayerPlan(layer=layer.name, level=level, plan=cell.plan))
            else:
                job.engines.progress.note(
                    f"{layer.name}: the atlas has a plan for {level} that "
                    f"{job.engines.backend.name} does not know, and it is left aside: {cell.plan}"
                )
    return tuple(dict.fromkeys(plans))
