"""A job that answers from another one on the same target: evidence is taken over, and added to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.errors import ConfigError
from autosparse.pipeline.adoption import BEGUN, MARKER, Adoption
from autosparse.pipeline.baseline import Baseline, measure_baseline
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import Engines, Job, prepare_job
from autosparse.pipeline.job_choices import job_choices, without_exclusions
from autosparse.pipeline.known_atlas import check_atlas
from autosparse.pipeline.layer_choices import fixed_levels
from autosparse.pipeline.optimize import Result, answer
from autosparse.pipeline.preparing import prepared
from autosparse.pipeline.source_job import SourceJob, held_for_reading
from autosparse.pipeline.training_rows import load_training_rows
from autosparse.pipeline.workspace import Workspace, open_workspace, remember_config


@dataclass(frozen=True)
class Fixing:
    """Layers that are fixed, as the flags say it."""

    exclude: Sequence[str]
    """Patterns of layers that stay as they are."""
    keep: Sequence[str]
    """`PATTERN=LEVEL` of layers that keep a level."""


class ResolvedFrom(BaseModel):
    """What a job took over from another one. Written when all of it is there."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    source: str
    """Output directory of the other job."""
    trials: int
    """Trials that were taken over."""
    note: str
    """What the report tells of it."""


def answer_from(
    source: SourceJob,
    config: JobConfig,
    engines: Engines,
    *,
    given: Path,
    further: int,
    resume: bool = False,
    fixing: Fixing | None = None,
) -> Result:
    """Answer from the evidence of another job, in a directory of its own.

    Nothing that the other job measured is measured again: it is copied, and only further
    candidates, and the answer, are measured. The other directory is only read.

    Args:
        source: the other job.
        config: what is asked of the new one.
        engines: what runs things.
        given: how the user knows the other job.
        further: recipes to measure beside those that are taken over, at most.
        resume: continue such a job in the same output directory.
        fixing: layers that the new job fixes beside those that the other one did.

    Raises:
        UserInputError: model or data are others than the other job's, a pattern fits nothing, or
            what is excluded is kept, too.
    """
    with held_for_reading(source), open_workspace(config, resume=resume) as workspace:
        adoption = Adoption(source, workspace, config.percentile)
        marker = workspace.job / MARKER
        if not marker.exists():
            (workspace.job / BEGUN).touch()
            adoption.take_files()
        job = prepared(prepare_job(config, workspace, engines))
        _check_digests(source, workspace, config)
        if fixing is not None:  # told as it was given: it is stored among what is kept
            fixed_levels(job.graph, fixing.exclude, fixing.keep)
        check_atlas(job)
        rows = load_training_rows(job)
        baseline = measure_baseline(job)
        if not marker.exists():
            engines.progress.stage("evidence", f"of the job in {given}")
            _adopt(adoption, job, baseline, marker, given)
        taken = ResolvedFrom.model_validate_json(marker.read_bytes())
        trials = max(taken.trials + further, 1)
        job = replace(job, config=config.model_copy(update={"trials": trials}))
        remember_config(workspace, job.config)
        engines.progress.note(taken.note)
        return answer(job, baseline, rows, [taken.note])


def answers_from_another(root: Path) -> bool:
    """Whether the job in a directory took over another one's evidence, or had begun to."""
    job = Workspace(root).job
    return (job / BEGUN).exists() or (job / MARKER).exists()


def _check_digests(source: SourceJob, workspace: Workspace, config: JobConfig) -> None:
    """The evidence belongs to these very files."""
    mine = json.loads((workspace.job / "inputs.json").read_bytes())
    for role, digest in source.inputs.items():
        if mine.get(role, digest) != digest:
            raise ConfigError(
                f"the {role} file {getattr(config, role)} is not the one that the job in "
                f"{source.root} was given: its evidence says nothing of this one",
                hint=f"give the original with --{role}, or run `autosparse optimize` on the new "
                "one",
            )


def _adopt(adoption: Adoption, job: Job, baseline: Baseline, marker: Path, given: Path) -> None:
    """Take over table and trials, and note that all of it is there.

    The note is part of what is delivered: it names the job as it was given.
    """
    source = adoption.source
    old, new = (
        job_choices(job.graph, config, job.engines.backend, job.target)
        for config in (without_exclusions(source.config), job.config)
    )
    cells = adoption.take_table(old, new)
    trials, known = adoption.take_trials(new, job.groups, baseline.contract)
    note = (
        f"answered from the job in {given}: {cells} cells of its level table and {trials} "
        f"of its {known} trials"
    )
    if not adoption.same_percentile:
        note += (
            f", at {job.config.percentile} from their raw samples; what trained the predictor was "
            f"timed at {source.config.percentile}"
        )
    taken = ResolvedFrom(source=str(source.root), trials=trials, note=note)
    partial = marker.with_suffix(".partial")
    partial.write_text(taken.model_dump_json(indent=2), encoding="utf-8")
    partial.replace(marker)
