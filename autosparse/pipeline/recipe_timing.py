"""Time whole recipes, several files to a run; their quality is left aside."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from autosparse.calibration import ActivationRanges
from autosparse.errors import CandidateError
from autosparse.evaluation import Comparison, LoweredModel, TimingSettings
from autosparse.levels import Recipe
from autosparse.pipeline.job import Job
from autosparse.pipeline.lowering import Weights, lower_recipe
from autosparse.pipeline.stopwatch import BASELINE_LABEL

TRIAL_TIMING = TimingSettings(rounds=6, block_seconds=0.025, warmup_runs=2, max_seconds=15.0)
# Several sessions are open at once; together they stay within this.
_BYTES_AT_ONCE = 256 << 20
_FILES_AT_ONCE = 8


def measure_recipes(
    job: Job,
    weights: Weights,
    ranges: ActivationRanges,
    recipes: Sequence[Recipe],
    settings: TimingSettings,
) -> dict[str, Comparison]:
    """Comparisons by recipe id, a few files to a run, each run beside the baseline.

    When the job's time is up, the first run is the last.
    """
    compared: dict[str, Comparison] = {}
    size = max(job.original.path.stat().st_size, 1)
    at_once = min(max(_BYTES_AT_ONCE // size, 1), _FILES_AT_ONCE)
    for start in range(0, len(recipes), at_once):
        if start and job.time_is_up:
            break
        files: dict[str, LoweredModel] = {}
        for recipe in recipes[start : start + at_once]:
            try:
                files[recipe.id] = lower_recipe(job, weights, recipe, ranges, recipe.id)
            except CandidateError as error:
                job.engines.progress.note(f"{recipe.id} failed: {error}")
        try:
            timed = job.stopwatch.measure({BASELINE_LABEL: job.original, **files}, settings)
        except CandidateError as error:
            job.engines.progress.note(f"a run of {len(files)} files failed: {error}")
            timed = {}
        for recipe_id, model in files.items():
            shutil.rmtree(model.directory, ignore_errors=True)
            if timed:
                compared[recipe_id] = Comparison(
                    baseline=timed[BASELINE_LABEL], candidate=timed[recipe_id]
                )
        job.engines.progress.step(min(start + at_once, len(recipes)), len(recipes))
    return compared
