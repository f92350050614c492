"""Find what a job can take from another one of the same ladder, on another target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from autosparse.calibration import ActivationRanges
from autosparse.evaluation import Environment, Target
from autosparse.journal import read_journal
from autosparse.levels import Knobs
from autosparse.levels.table import WeightFiles, read_cells
from autosparse.pipeline.activation_type import TimedActivationType
from autosparse.pipeline.atlas_plans import plans_in
from autosparse.pipeline.bench_building import ENVIRONMENT_FILE
from autosparse.pipeline.donor import Donor
from autosparse.pipeline.job import Job, target_of
from autosparse.pipeline.source_job import FoundJob

# What else was wished of layers and levels may differ: a level is what its name says.
_SAME_WEIGHTS = ("prepare", "seed")
# The file of a space of the user's own.
_SPACE = "search space"


def donor_of(found: FoundJob, job: Job) -> Donor | None:
    """What a job can take from another one; None where it is about another model or other data."""
    mine = json.loads((job.workspace.job / "inputs.json").read_bytes())
    roles = ("model", "calibration", "validation")
    same_files = all(found.inputs.get(role) == mine[role] for role in roles)
    same_wishes = all(
        getattr(found.config, field) == getattr(job.config, field) for field in _SAME_WEIGHTS
    )
    if not (same_files and same_wishes and _same_order(found, job, mine)):
        return None
    table = max(found.workspace.table.glob("*/cells.jsonl"), key=_last_changed).parent
    environment = Environment.model_validate_json((table / ENVIRONMENT_FILE).read_bytes())
    theirs = target_of(found.config).for_model(job.graph).on(environment)
    same_backend = theirs.backend == job.target.backend
    ranges = read_journal(table / "ranges.jsonl", ActivationRanges) if same_backend else ()
    return Donor(
        name=found.root.name,
        cells={(cell.layer, cell.level): cell for cell in read_cells(table)},
        files=WeightFiles(table / "weights"),
        ranges=ranges[-1] if ranges else None,
        knobs=_knobs(found, table.name) if ranges and _same_files(theirs, job.target) else None,
        plans=plans_in(table),
    )


def _same_order(found: FoundJob, job: Job, inputs: Mapping[str, str]) -> bool:
    """Whether channels were reordered alike: for the N:M of the same space, or not at all."""
    if "permute" not in job.config.prepare:
        return True
    theirs, mine = found.inputs.get(_SPACE), inputs.get(_SPACE)
    of_its_own = theirs is not None or mine is not None
    return theirs == mine if of_its_own else found.config.space == job.config.space


def _last_changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def _same_files(theirs: Target, mine: Target) -> bool:
    """Whether a recipe is lowered to the same file for both."""
    return (theirs.backend, theirs.architecture, theirs.input_shapes) == (
        mine.backend, mine.architecture, mine.input_shapes,
    )  # fmt: skip


def _knobs(found: FoundJob, environment: str) -> Knobs:
    timed = read_journal(found.workspace.job / "activation_types.jsonl", TimedActivationType)
    chosen = [record.chosen for record in timed if record.environment == environment]
    return Knobs(activation_type=chosen[-1]) if chosen else Knobs()
