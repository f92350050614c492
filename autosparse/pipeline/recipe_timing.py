"""Time whole recipes, several files to a run; their quality is left aside."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from autosparse.calibration import ActivationRanges
from autosparse.errors import CandidateError, DisturbedError
from autosparse.evaluation import Comparison, LoweredModel, Measurement, TimingSettings
from autosparse.levels import Recipe
from autosparse.pipeline.job import Job
from autosparse.pipeline.lowering import Weights, lower_recipe
from autosparse.pipeline.stopwatch import BASELINE_LABEL

TRIAL_TIMING = TimingSettings(rounds=6, block_seconds=0.025, warmup_runs=2, max_seconds=15.0)
Measure = Callable[[Mapping[str, LoweredModel]], Mapping[str, Measurement]]
# Several sessions are open at once; together they stay within this.
_BYTES_AT_ONCE = 256 << 20
_FILES_AT_ONCE = 8


@dataclass(frozen=True)
class RecipeTimes:
    """What became of recipes that were to be timed.

    What a disturbed machine kept from being timed, or the job's time limit, is in neither.
    """

    compared: dict[str, Comparison] = field(default_factory=dict)
    """Recipe id -> the recipe beside the baseline."""
    failed: dict[str, str] = field(default_factory=dict)
    """Recipe id -> why it cannot be lowered or run."""


def measure_recipes(
    job: Job,
    weights: Weights,
    ranges: ActivationRanges,
    recipes: Sequence[Recipe],
    settings: TimingSettings,
    *,
    fresh: bool = False,
) -> RecipeTimes:
    """Time recipes, a few files to a run, each run beside the baseline.

    When the job's time is up, the first run is the last.

    Args:
        job: what all stages share.
        weights: what the recipes' weights are.
        ranges: ranges of the activations.
        recipes: what to time.
        settings: how long and how often.
        fresh: each run in a process that has run nothing before.
    """
    times = RecipeTimes()
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
                _fail(job, times, recipe.id, error)
        if files:
            _measure(
                job, files, partial(job.stopwatch.measure, settings=settings, fresh=fresh), times
            )
        for model in files.values():
            shutil.rmtree(model.directory, ignore_errors=True)
        job.engines.progress.step(min(start + at_once, len(recipes)), len(recipes))
    return times


def _measure(
    job: Job, files: Mapping[str, LoweredModel], measure: Measure, times: RecipeTimes
) -> None:
    """Time files in one run; where it fails, one by one: a file that crashes must hide no other."""
    try:
        timed = measure({BASELINE_LABEL: job.original, **files})
    except DisturbedError as error:  # says nothing of any file
        job.engines.progress.note(f"{len(files)} files were not timed: {error}")
        return
    except CandidateError as error:
        if len(files) == 1:
            _fail(job, times, next(iter(files)), error)
            return
        job.engines.progress.note(f"a run of {len(files)} files failed, now one by one: {error}")
        for recipe_id, model in files.items():
            _measure(job, {recipe_id: model}, measure, times)
        return
    for recipe_id in files:
        times.compared[recipe_id] = Comparison(
            baseline=timed[BASELINE_LABEL], candidate=timed[recipe_id]
        )


def _fail(job: Job, times: RecipeTimes, recipe_id: str, error: CandidateError) -> None:
    times.failed[recipe_id] = str(error)
    job.engines.progress.note(f"{recipe_id} failed: {error}")
