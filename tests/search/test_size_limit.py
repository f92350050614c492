"""Sizes predicted from the table, and their price in a search."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from autosparse.levels import BASELINE, Level
from autosparse.levels.table import Cell
from autosparse.search import RecipeSpace, StrategyContext
from autosparse.search.chain import chain_of, errors_of
from autosparse.search.knapsack import knapsack_points
from autosparse.search.memory_limit import MemoryLimit
from autosparse.search.size_limit import SizeLimit
from autosparse.search.size_price import priced, smallest_point

INT8, SPARSE = Level.parse("dense:int8"), Level.parse("block1x4@0.75:int8")
LEVELS = (BASELINE, INT8, SPARSE)
LAYERS = [f"layer{i}" for i in range(6)]
WEIGHTS = (40, 4, 28, 8, 20, 12)
SHARES = {BASELINE: 1.0, INT8: 0.25, SPARSE: 0.1}
SPACE = RecipeSpace("0" * 64, dict.fromkeys(LAYERS, LEVELS))
DENSE = sum(WEIGHTS) + 10


def cells(library: int = 0) -> list[Cell]:
    return [
        Cell(
            layer=name, level=level, searched=True, library_bytes=library * (level == SPARSE),
            file_bytes=round(DENSE - weight * (1 - SHARES[level])),
        )
        for name, weight in zip(LAYERS, WEIGHTS, strict=True)
        for level in LEVELS
    ]  # fmt: skip


def limit(bound: float, library: int = 0) -> SizeLimit:
    made = SizeLimit.of(bound, cells(library), SPACE)
    assert made is not None
    return made


def size(point: Mapping[str, int], library: int = 0) -> int:
    saved = sum(
        weight - round(weight * SHARES[LEVELS[point[name]]])
        for name, weight in zip(LAYERS, WEIGHTS, strict=True)
    )
    return DENSE - saved + library * any(index == 2 for index in point.values())


def points() -> list[dict[str, int]]:
    return [dict(zip(LAYERS, p, strict=True)) for p in itertools.product(range(3), repeat=6)]


def test_what_layers_add_is_added_up_and_a_library_counts_once() -> None:
    made = limit(100, library=7)
    for point in points()[::37]:
        predicted = made.predict(SPACE.recipe(point).levels)
        assert predicted == pytest.approx(size(point, library=7), abs=3)
    assert made.predict(SPACE.recipe({}).levels) == DENSE


def test_sizes_that_were_seen_correct_the_prediction() -> None:
    made = limit(100)
    recipe = SPACE.recipe(dict.fromkeys(LAYERS, 1))
    before = made.predict(recipe.levels)
    made.learn(recipe.id, recipe.levels, round(0.9 * before))
    assert made.predict(recipe.levels) == pytest.approx(0.9 * before, rel=0.02)


def test_only_what_is_surely_too_large_is_excluded() -> None:
    made = limit(100)
    assert not made.excludes(104.9)
    assert made.excludes(105.1)


def test_a_table_without_sizes_gives_no_limit() -> None:
    unknown = [cell.model_copy(update={"file_bytes": None}) for cell in cells()]
    assert SizeLimit.of(100, unknown, SPACE) is None
    assert SizeLimit.of(100, [*cells()[:-1], unknown[-1]], SPACE) is None


@pytest.mark.parametrize(("library", "kernels"), [(0, True), (40, False)])
def test_the_smallest_recipe_weighs_its_library(library: int, kernels: bool) -> None:
    made = limit(100, library)
    point = smallest_point(SPACE, made)
    least = min(made.predict(SPACE.recipe(p).levels) for p in points())
    assert made.predict(SPACE.recipe(point).levels) == least
    assert all(index == (2 if kernels else 1) for index in point.values())


ERRORS = np.random.default_rng(5).uniform(0.5, 2.0, 6)


def context(bound: float | None) -> StrategyContext:
    losses = {BASELINE: 0.0, INT8: 0.1, SPARSE: 1.0}
    table = {(n, x): losses[x] * e for n, e in zip(LAYERS, ERRORS, strict=True) for x in LEVELS}
    speeds = (1.0, 0.5, 0.3)
    return StrategyContext(
        space=SPACE, seconds=table, divergence=table, weight_error=table, lamp=table,
        latency_bound=0.8, seed=0,
        predicted_ratio=lambda point: sum(speeds[point.get(n, 0)] for n in LAYERS) / 6,
        size_limit=None if bound is None else limit(bound),
    )  # fmt: skip


def loss(of: StrategyContext, point: Mapping[str, int]) -> float:
    return sum(of.divergence[n, LEVELS[point[n]]] for n in LAYERS)


@pytest.mark.parametrize("bound", [90, 70, 50, 35, 25])
def test_with_a_price_on_bytes_the_knapsack_keeps_the_limit(bound: int) -> None:
    asked = context(bound)
    assert asked.size_limit is not None
    sizes = {tuple(p.values()): asked.size_limit.predict(SPACE.recipe(p).levels) for p in points()}
    inside = [
        p
        for p in points()
        if asked.predicted_ratio(p) <= 0.8 + 1e-9 and sizes[tuple(p.values())] <= bound
    ]
    chain, errors = chain_of(asked), errors_of(asked)
    found = knapsack_points(asked, chain, priced(asked, chain, errors))[0]
    assert sizes[tuple(found.values())] <= bound
    # prices reach the convex hull of the trade only
    assert loss(asked, found) <= 1.35 * min(loss(asked, p) for p in inside)


def test_without_a_limit_in_the_way_nothing_has_a_price() -> None:
    for asked in (context(None), context(1000)):
        errors = errors_of(asked)
        assert priced(asked, chain_of(asked), errors) is errors


def test_a_limit_that_nothing_keeps_leads_to_the_smallest() -> None:
    asked = context(10)
    chain, errors = chain_of(asked), errors_of(asked)
    found = knapsack_points(asked, chain, priced(asked, chain, errors))[0]
    assert set(found.values()) == {2}


def test_memory_is_a_line_over_sizes() -> None:
    made = MemoryLimit(300.0)
    assert made.probability_inside(1000) == 1.0  # nothing is known yet
    for number, weight in enumerate((50, 80, 120, 160)):
        made.learn(str(number), weight, 100 + 2 * weight)
    assert made.largest_size == pytest.approx(100)
    assert made.probability_inside(90) > 0.95
    assert made.probability_inside(100) == pytest.approx(0.5)
    assert made.probability_inside(110) < 0.05
    assert made.probability_inside(None) == 1.0


def test_memory_that_does_not_depend_on_sizes_rules_no_size_out() -> None:
    made = MemoryLimit(300.0)
    for number, weight in enumerate((50, 80, 120)):
        made.learn(str(number), weight, 200 - number)
    assert made.largest_size == np.inf
    assert made.probability_inside(10_000) > 0.99


def test_a_library_that_does_not_fit_leaves_the_levels_that_need_none() -> None:
    """All sparse would be smallest by far, if its kernels weighed nothing."""
    asked = replace(context(45), size_limit=limit(45, library=40))
    assert asked.size_limit is not None
    chain, errors = chain_of(asked), errors_of(asked)
    found = knapsack_points(asked, chain, priced(asked, chain, errors))[0]
    assert asked.size_limit.predict(SPACE.recipe(found).levels) <= 45
    assert 2 not in found.values()
