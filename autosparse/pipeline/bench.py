"""The bench: everything that the trials of one search share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from autosparse.artifacts.manifest import Decision
from autosparse.calibration import ActivationRanges
from autosparse.evaluation.sample import Sample
from autosparse.journal import Journal
from autosparse.levels import BASELINE, Knobs, Recipe
from autosparse.levels.table import LevelTable
from autosparse.pipeline.baseline import Baseline
from autosparse.pipeline.correction import Correction, CorrectionEffect
from autosparse.pipeline.feasibility import Fastest
from autosparse.pipeline.job import Job
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.scoring import ScoringKit


@dataclass(frozen=True)
class Bench:
    """A job, its baseline, its level table, and the sample that both are compared on."""

    job: Job
    baseline: Baseline
    ranges: ActivationRanges
    table: LevelTable
    correction: Correction | None
    """What is done to a recipe's weights before they are lowered, where it helps."""
    sample: Sample
    """The rows that files are compared on before one becomes a trial."""
    raw: Journal[MeasuredTrial]
    """Raw samples of every trial, and of what was timed for other purposes."""
    knobs: Knobs = field(default_factory=Knobs)
    """Runtime settings of every recipe of the job."""
    out_of_reach: Fastest | None = None
    """The fastest recipe, where it was found to miss the budget before the table was built."""
    correction_effects: tuple[CorrectionEffect, ...] = ()
    """What the correction was found to do; told in the report."""
    notes: tuple[str, ...] = ()
    """What the report must tell of the stages before the search."""
    decisions: tuple[Decision, ...] = ()
    """What was chosen there, and by what."""

    @cached_property
    def kit(self) -> ScoringKit:
        """What evaluating a recipe takes, here or in another process."""
        job = self.job
        return ScoringKit(
            job.workshop, self.table.files, self.ranges, self.correction, self.sample,
            job.selecting, self.baseline.reference, job.metric,
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
