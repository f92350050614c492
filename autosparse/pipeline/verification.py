"""Verification: a file is opened in a fresh process, timed against the baseline, evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.evaluation import Comparison, Contract, Evidence, LoweredModel, Quality
from autosparse.evaluation.metrics import Outputs
from autosparse.evaluation.quality import compare_quality
from autosparse.evaluation.timing import TimingSettings
from autosparse.levels import Recipe
from autosparse.pipeline.job import Job
from autosparse.pipeline.records import evidence_of
from autosparse.pipeline.stopwatch import BASELINE_LABEL

VERIFY_TIMING = TimingSettings(rounds=16, block_seconds=0.04, max_seconds=60.0)


@dataclass(frozen=True)
class Verified:
    """What a second look at one file found."""

    recipe: Recipe
    model: LoweredModel
    comparison: Comparison
    quality: Quality
    """On the rows that gate, which no choice was made on."""
    test_quality: Quality | None
    """On the untouched test file, where one was given. Reported only."""
    evidence: Evidence
    contract: Contract
    """The contract, its allowed drop resolved on the rows that gate."""
    dense_outputs: Outputs
    outputs: Outputs

    @property
    def holds(self) -> bool:
        """Whether the file may be delivered as meeting the contract."""
        return self.evidence.meets_budget(self.contract) and self.evidence.meets_drop(self.contract)


def verify_model(job: Job, contract: Contract, recipe: Recipe, model: LoweredModel) -> Verified:
    """Measure and evaluate one lowered file again.

    Raises:
        CandidateError: the file does not open, does not run, or cannot be timed.
    """
    files = {BASELINE_LABEL: job.original, recipe.id: model}
    timed = job.stopwatch.measure(files, VERIFY_TIMING, fresh=True)
    comparison = Comparison(baseline=timed[BASELINE_LABEL], candidate=timed[recipe.id])
    dense = job.answer(job.original, job.gating)
    outputs = job.answer(model, job.gating)
    quality = compare_quality(job.metric, outputs, dense, job.gating)
    test_quality = None
    if job.test is not None:
        test_quality = compare_quality(
            job.metric, job.answer(model, job.test), job.answer(job.original, job.test), job.test
        )
    return Verified(
        recipe=recipe,
        model=model,
        comparison=comparison,
        quality=quality,
        test_quality=test_quality,
        evidence=evidence_of(
            recipe, quality, job.divergence(outputs, dense), comparison, job.config.percentile
        ),
        contract=contract.model_copy(update={"baseline_quality": quality.baseline_value}),
        dense_outputs=dense,
        outputs=outputs,
    )
