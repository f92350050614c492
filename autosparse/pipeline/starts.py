"""Before the search: recipes that anyone would try first, and whether the budget can be met."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.levels import Level, Recipe
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.feasibility import Fastest, find_fastest
from autosparse.pipeline.search_run import Search
from autosparse.pipeline.table_building import PLAIN_INT8

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
    fastest = find_fastest(bench, search.space, bench.latency_bound)
    infeasible = fastest.comparison.ratio_interval(percentile).low > bench.latency_bound
    bench.job.engines.progress.stage("search", f"up to {bench.job.config.trials} trials")
    for recipe in [*_uniform_recipes(search), plain_int8(bench), fastest.recipe]:
        search.try_recipe(recipe, START)
    return Starts(fastest, infeasible)


def _uniform_recipes(search: Search) -> list[Recipe]:
    """Every level at every layer that may have it; the others at their slowest one."""
    space = search.space
    kinds = dict.fromkeys(
        level.without_method() for options in space.levels.values() for level in options
    )
    return [
        space.recipe({name: _index(options, kind) for name, options in space.levels.items()})
        for kind in kinds
    ]


def _index(options: tuple[Level, ...], kind: Level) -> int:
    """Where a layer's options hold this pattern and precision; 0 where they do not."""
    return next((i for i, level in enumerate(options) if level.without_method() == kind), 0)


def plain_int8(bench: Bench) -> Recipe:
    """INT8 by rounding at every layer that can be: what one call of a toolkit gives."""
    levels = bench.dense_recipe.levels
    cells = (bench.table.find(name, PLAIN_INT8) for name in levels)
    chosen = {cell.layer: cell.level for cell in cells if cell is not None and cell.searched}
    return bench.dense_recipe.model_copy(update={"levels": {**levels, **chosen}})
