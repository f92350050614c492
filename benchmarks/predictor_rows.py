"""How far the latency predictor is right on unseen recipes, and what scoring one costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from scipy.stats import kendalltau

from autosparse.evaluation import Comparison, Percentile
from autosparse.pipeline.job import first_rows
from autosparse.pipeline.latency_training import draw_recipes, training_samples
from autosparse.pipeline.lowering import lower_recipe
from autosparse.pipeline.recipe_timing import TRIAL_TIMING, measure_recipes
from benchmarks.held_cores import held_cores
from benchmarks.opened_job import OpenedJob
from benchmarks.rows import Row, ratio_of
from benchmarks.verdicts import Floats

_OTHER_SEED = 10_007
# What a prediction is held against is timed four times as long as a trial: the error of a trial's
# own latency would otherwise be counted as the predictor's. The rows tell what is left of it.
_TRUTH = TRIAL_TIMING.model_copy(
    update={
        "rounds": 4 * TRIAL_TIMING.rounds,
        "max_seconds": 4 * TRIAL_TIMING.max_seconds,
    }
)
_LEAST_TAU = 0.9
# Of the error that guessing without a predictor has.
_MOST_SHARE_OF_ERROR = 0.5
# The model that the bar on scoring is meant for, and its rows.
SCORED_MODEL = "resnet20"
_SCORED_ROWS, _SCORED_TIMES, _MOST_SECONDS, _SCORED_CORES = 512, 5, 1.0, 2


def predictor_rows(opened: OpenedJob, name: str, count: int) -> Iterator[Row]:
    """Rank correlation and median error on unseen recipes drawn evenly over the latency range.

    Raises:
        ValueError: too few recipes could be measured.
    """
    bench, search = opened.bench, opened.search
    samples = training_samples(bench, search.space)
    seen = {recipe.id for recipe, _ in samples} | {trial.recipe.id for trial in search.trials}
    drawn = draw_recipes(search.space, count, opened.job.config.seed + _OTHER_SEED)
    unseen = {recipe.id: recipe for recipe in drawn if recipe.id not in seen}
    drawn_now = list(unseen.values())
    times = measure_recipes(bench.job, bench.table, bench.ranges, drawn_now, _TRUTH)
    compared = times.compared
    if len(compared) < 3:
        raise ValueError(f"only {len(compared)} unseen recipes could be measured")
    percentile = opened.job.config.percentile
    measured = np.array([comparison.ratio(percentile) for comparison in compared.values()])
    recipes = [unseen[recipe_id] for recipe_id in compared]
    predicted = np.array([search.predictor.predict(recipe).ratio for recipe in recipes])
    sums = np.array([search.predictor.table_sum(recipe) for recipe in recipes])
    constant = float(np.median([ratio for _, ratio in samples]))
    tau = float(kendalltau(predicted, measured).statistic)
    spread = (
        f"{len(recipes)} unseen recipes at {measured.min():.0%} to {measured.max():.0%}, "
        f"each known to {100 * _half_width(compared.values(), percentile):.1f}% (median)"
    )
    yield Row(
        what=f"{name}: predictor, Kendall tau", figure=tau, bar=f">= {_LEAST_TAU}",
        holds=tau >= _LEAST_TAU, environment=opened.environment,
        note=f"{spread}; fitted on {len(samples)} recipes and {len(search.trials)} trials",
    )  # fmt: skip
    guesses = {
        "plain sum of the table": sums,
        "constant: median of the training ratios": np.full(len(measured), constant),
    }
    yield from error_rows(name, predicted, guesses, measured, opened.environment, spread)


def error_rows(
    name: str,
    predicted: Floats,
    guesses: Mapping[str, Floats],
    measured: Floats,
    environment: str,
    note: str,
) -> Iterator[Row]:
    """Median error of the predictor against those of guesses, for the same recipes."""
    mine = _median_error(predicted, measured)
    for opponent, guessed in guesses.items():
        theirs = _median_error(guessed, measured)
        yield Row(
            what=f"{name}: predictor, median error", figure=100 * mine, unit="%",
            opponent=opponent, opponent_figure=100 * theirs, ratio=ratio_of(mine, theirs),
            bar=f"ratio <= {_MOST_SHARE_OF_ERROR:g}",
            holds=mine <= _MOST_SHARE_OF_ERROR * theirs, environment=environment, note=note,
        )  # fmt: skip


def scoring_row(opened: OpenedJob, name: str) -> Row:
    """Seconds from a recipe to its outputs on 512 rows: lower, open, run; on two cores."""
    job, bench, space = opened.job, opened.bench, opened.search.space
    data = first_rows(job.selecting, _SCORED_ROWS)
    taken: list[float] = []
    with held_cores(_SCORED_CORES) as cores:
        for recipe in draw_recipes(space, _SCORED_TIMES, job.config.seed + _OTHER_SEED):
            started = time.perf_counter()
            model = lower_recipe(job, bench.table, recipe, bench.ranges, "scored", bench.correction)
            job.answer(model, data)
            taken.append(time.perf_counter() - started)
    seconds = float(np.median(taken))
    return Row(
        what=f"{name}: scoring a recipe on {len(data)} rows (lower, open, run)", figure=seconds,
        unit="s", bar=f"< {_MOST_SECONDS:g} s", holds=seconds < _MOST_SECONDS,
        environment=opened.environment,
        note=f"median of {len(taken)} recipes, {min(taken):.3f} to {max(taken):.3f} s; "
        f"on {cores} of {os.cpu_count()} cores",
    )  # fmt: skip


def _median_error(guesses: Floats, measured: Floats) -> float:
    return float(np.median(np.abs(guesses - measured) / measured))


def _half_width(comparisons: Iterable[Comparison], percentile: Percentile) -> float:
    """Half of what is measured of a ratio's interval, relative; the median over all recipes."""
    widths = []
    for comparison in comparisons:
        interval = comparison.ratio_interval(percentile)
        widths.append((interval.high - interval.low) / 2 / comparison.ratio(percentile))
    return float(np.median(widths))
