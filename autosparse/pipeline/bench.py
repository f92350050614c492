"""The bench: everything that the trials of one search share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from autosparse.calibration import ActivationRanges
from autosparse.datasets import Dataset
from autosparse.evaluation import Environment
from autosparse.evaluation.metrics import Outputs
from autosparse.journal import Journal, stored_safely
from autosparse.levels import BASELINE, Knobs, Recipe
from autosparse.levels.table import LevelTable
from autosparse.pipeline.activation_type import choose_knobs
from autosparse.pipeline.baseline import Baseline
from autosparse.pipeline.calibrate import Calibration
from autosparse.pipeline.correction import Correction, CorrectionEffect, CorrectionTest
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.layer_groups import Groups, not_shared, told
from autosparse.pipeline.parity import Parity, check_parity
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.scoring import ScoringKit
from autosparse.pipeline.table_building import TableBuilder, choose_ranges

_FEW_ROWS = 64
ENVIRONMENT_FILE = "environment.json"


@dataclass(frozen=True)
class Bench:
    """A job, its baseline, its level table, and the rows of the sampling rung."""

    job: Job
    baseline: Baseline
    ranges: ActivationRanges
    table: LevelTable
    correction: Correction | None
    """What is done to a recipe's weights before they are lowered, where it helps."""
    few: Dataset
    """The rows of the sampling rung."""
    few_outputs: Outputs
    """The dense model's answers on them."""
    raw: Journal[MeasuredTrial]
    """Raw samples of every trial."""
    knobs: Knobs = field(default_factory=Knobs)
    """Runtime settings of every recipe of the job."""
    correction_effects: tuple[CorrectionEffect, ...] = ()
    """What the correction was found to do; told in the report."""
    notes: tuple[str, ...] = ()
    """What the report must tell of the stages before the search."""

    @cached_property
    def kit(self) -> ScoringKit:
        """What evaluating a recipe takes, here or in another process."""
        job = self.job
        return ScoringKit(
            job.workshop, self.table.files, self.ranges, self.correction, self.few,
            self.few_outputs, job.selecting, self.baseline.outputs, job.metric,
        )  # fmt: skip

    @property
    def latency_bound(self) -> float:
        """Largest latency that may be delivered, as a share of the baseline's."""
        return min(self.baseline.contract.latency_ratio, 1.0)

    @property
    def dense_recipe(self) -> Recipe:
        """The model as it came."""
        return Recipe(
            model_sha256=self.job.graph.sha256,
            levels={layer.name: BASELINE for layer in self.job.graph.layers},
            knobs=self.knobs,
        )


def build_bench(
    job: Job,
    baseline: Baseline,
    choices: Sequence[Choice],
    calibration: Calibration,
    parity: Parity | None = None,
) -> Bench:
    """Choose how INT8 is run and build the level table; what is on disk already is kept.

    Args:
        job: what all stages share.
        baseline: what every candidate is held against.
        choices: which levels are there.
        calibration: what the pass over the data told.
        parity: whether torch computes what the runtime does; None to find out here.
    """
    parity = parity or check_parity(job)
    few = first_rows(job.selecting, _FEW_ROWS)
    few_outputs = job.answer(job.original, few)
    # a table's seconds belong to the environment they were measured in
    directory = job.workspace.table / baseline.environment.id
    table = LevelTable(directory)
    _describe(directory, baseline.environment)
    known = Journal(directory / "ranges.jsonl", ActivationRanges)
    if not known.records:
        known.append(choose_ranges(job, choices, calibration, few, few_outputs))
    ranges = known.records[-1]
    knobs = choose_knobs(job, baseline, choices, calibration, ranges)
    builder = TableBuilder(job, table, calibration, ranges, few, few_outputs, knobs)
    left_out = builder.build(choices)
    _share_refusals(table, job.groups)
    notes = [told(job.groups)] if job.groups else []
    if left_out:
        notes.append(f"the time limit left no time for the levels {', '.join(left_out)}")
    correction: Correction | None = None
    effects: tuple[CorrectionEffect, ...] = ()
    if parity.holds:
        test = CorrectionTest(job, table, ranges, few, few_outputs, knobs)
        correction = test.decide(directory / "correction.jsonl")
        effects = Journal(directory / "correction.jsonl", CorrectionEffect).records
    else:
        # its statistics come from torch, which does not compute what the file does
        notes.append(f"no correction of channel statistics: {parity.note}")
        job.engines.progress.note(notes[-1])
    return Bench(
        job=job,
        baseline=baseline,
        ranges=ranges,
        table=table,
        correction=correction,
        few=few,
        few_outputs=few_outputs,
        raw=Journal(job.workspace.measurements, MeasuredTrial),
        knobs=knobs,
        correction_effects=effects,
        notes=tuple(notes),
    )


def _describe(directory: Path, environment: Environment) -> None:
    """Say where the table was measured, for whoever opens it elsewhere."""
    path = directory / ENVIRONMENT_FILE
    with stored_safely(path):
        path.write_text(environment.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _share_refusals(table: LevelTable, groups: Groups) -> None:
    """What the runtime or the clock refused for one layer of a group is refused for all of it."""
    searched = [cell for cell in table.cells() if cell.searched]
    reasons = not_shared(((cell.layer, cell.level) for cell in searched), groups)
    for cell in searched:
        reason = reasons.get(cell.layer, {}).get(cell.level.without_method())
        if reason is not None:
            table.put(cell.model_copy(update={"searched": False, "reason": reason}))
