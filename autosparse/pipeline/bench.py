"""The bench: everything that the trials of one search share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autosparse.calibration import ActivationRanges
from autosparse.datasets import Dataset
from autosparse.evaluation.metrics import Outputs
from autosparse.journal import Journal
from autosparse.levels import BASELINE, Knobs, Recipe
from autosparse.levels.table import LevelTable
from autosparse.pipeline.activation_type import choose_knobs
from autosparse.pipeline.baseline import Baseline
from autosparse.pipeline.calibrate import Calibration
from autosparse.pipeline.correction import Correction, CorrectionTest
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.table_building import TableBuilder, choose_ranges

_FEW_ROWS = 64


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
    elapsed: Callable[[], float]
    """Seconds since the search began."""
    knobs: Knobs = field(default_factory=Knobs)
    """Runtime settings of every recipe of the job."""

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
    job: Job, baseline: Baseline, choices: Sequence[Choice], calibration: Calibration
) -> Bench:
    """Choose how INT8 is run and build the level table; what is on disk already is kept."""
    started = time.monotonic()
    few = first_rows(job.selecting, _FEW_ROWS)
    few_outputs = job.answer(job.original, few)
    ranges = choose_ranges(job, choices, calibration, few, few_outputs)
    knobs = choose_knobs(job, baseline, choices, calibration, ranges)
    # a table's seconds belong to the environment they were measured in
    directory = job.workspace.table / baseline.environment.id
    table = LevelTable(directory)
    TableBuilder(job, table, calibration, ranges, few, few_outputs, knobs).build(choices)
    test = CorrectionTest(job, table, ranges, few, few_outputs, knobs)
    return Bench(
        job=job,
        baseline=baseline,
        ranges=ranges,
        table=table,
        correction=test.decide(directory / "correction.jsonl"),
        few=few,
        few_outputs=few_outputs,
        raw=Journal(job.workspace.measurements, MeasuredTrial),
        elapsed=lambda: time.monotonic() - started,
        knobs=knobs,
    )
