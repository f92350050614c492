"""Before the search: recipes that anyone would try first, and whether the budget can be met."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.levels import Recipe
from autosparse.pipeline.feasibility import Fastest, find_fastest
from autosparse.pipeline.search_run import Search
from autosparse.pipeline.trial import Bench

START = "start"


@dataclass(frozen=True)
class Starts:
    """What the first trials told."""

    fastest: Fastest
    infeasible: bool
    """The fastest recipe misses the budget beyond its interval."""


def run_starts(bench: Bench, search: Search) -> Starts:
    """Try the model as it is, each level everywhere, and the fastest recipe there is."""
    bench.job.engines.progress.stage("feasibility", "how fast can this model get?")
    percentile = bench.job.config.percentile
    bound = min(bench.baseline.contract.latency_ratio, 1.0)
    fastest = find_fastest(bench, search.space, bound)
    infeasible = fastest.comparison.ratio_interval(percentile).low > bound
    bench.job.engines.progress.stage("search", f"up to {bench.job.config.trials} trials")
    for recipe in [*_uniform_recipes(search), fastest.recipe]:
        search.try_recipe(recipe, START)
    return Starts(fastest, infeasible)


def _uniform_recipes(search: Search) -> list[Recipe]:
    """Every level at every layer that may have it; the others at their most accurate one."""
    space = search.space
    every = dict.fromkeys(level for options in space.levels.values() for level in options)
    return [
        space.recipe(
            {
                name: options.index(level) if level in options else 0
                for name, options in space.levels.items()
            }
        )
        for level in every
    ]
