"""One trial: from a recipe to evidence, each line one step."""

from __future__ import annotations

import shutil

from autosparse.evaluation import Comparison, TimingSettings
from autosparse.evaluation.quality import compare_quality
from autosparse.levels import Recipe
from autosparse.pipeline.baseline import measure_patiently
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.records import MeasuredTrial, TrialRecord, evidence_of
from autosparse.pipeline.stopwatch import BASELINE_LABEL
from autosparse.pipeline.table_building import lower_recipe

TRIAL_TIMING = TimingSettings(rounds=6, block_seconds=0.025, warmup_runs=2, max_seconds=15.0)


def run_trial(bench: Bench, recipe: Recipe, proposed_by: str) -> TrialRecord:
    """Lower, evaluate and measure one recipe.

    Raises:
        CandidateError: this recipe failed; the search goes on.
    """
    job, percentile = bench.job, bench.job.config.percentile
    model = lower_recipe(job, bench.table, recipe, bench.ranges, recipe.id, bench.correction)
    try:
        outputs = job.answer(model, job.selecting)
        quality = compare_quality(job.metric, outputs, bench.baseline.outputs, job.selecting)
        divergence = job.divergence(outputs, bench.baseline.outputs)
        files = {BASELINE_LABEL: job.original, recipe.id: model}
        timed = measure_patiently(job, files, TRIAL_TIMING)
    finally:
        shutil.rmtree(model.directory, ignore_errors=True)
    comparison = Comparison(baseline=timed[BASELINE_LABEL], candidate=timed[recipe.id])
    bench.raw.append(MeasuredTrial(recipe_id=recipe.id, comparison=comparison))
    return TrialRecord(
        recipe=recipe,
        evidence=evidence_of(recipe, quality, divergence, comparison, percentile),
        quality=quality,
        latency_seconds=comparison.candidate.percentile_seconds(percentile),
        baseline_seconds=comparison.baseline.percentile_seconds(percentile),
        environment=comparison.candidate.environment,
        proposed_by=proposed_by,
        seconds_since_start=job.elapsed,
    )
