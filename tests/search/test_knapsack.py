"""The knapsack: what brute force finds, at every bound, with and without borders."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from autosparse.levels import Level, Precision
from autosparse.search import RecipeSpace, StrategyContext
from autosparse.search.chain import chain_of, errors_of
from autosparse.search.knapsack import chain_front, knapsack_points

OPTIONS = tuple(
    Level.parse(text) for text in ("dense:fp32", "dense:int8", "2:4:int8", "unstructured@0.9:fp32")
)
LAYERS = tuple("abcde")
Point = Mapping[str, int]


class World:
    """Random costs and errors; passing from one number format to the other costs too."""

    def __init__(self, seed: int, border: float, bound: float = 0.6) -> None:
        rng = np.random.default_rng(seed)
        falling = np.sort(rng.uniform(0.05, 0.3, size=(len(LAYERS), len(OPTIONS))))[:, ::-1]
        self.shares = falling / falling[:, 0].sum()
        self.errors = np.cumsum(rng.uniform(0.0, 1.0, size=falling.shape), axis=1)
        self.errors[:, 0] = 0.0
        self.borders = border * rng.uniform(0.2, 1.0, size=len(LAYERS) - 1)
        levels = dict.fromkeys(LAYERS, OPTIONS)
        cells = {(n, o): float(self.errors[i, j]) for i, n in enumerate(LAYERS)
                 for j, o in enumerate(OPTIONS)}  # fmt: skip
        self.context = StrategyContext(
            space=RecipeSpace("0" * 64, levels),
            seconds=dict.fromkeys(cells, 1e-3),
            divergence=cells,
            weight_error=dict.fromkeys(cells, 0.0),
            lamp=dict.fromkeys(cells, 0.0),
            latency_bound=bound,
            predicted_ratio=self.ratio,
            seed=0,
        )

    def ratio(self, point: Point) -> float:
        numbers = [point[name] for name in LAYERS]
        integer = [OPTIONS[n].precision is Precision.INT8 for n in numbers]
        crossed = [a != b for a, b in itertools.pairwise(integer)]
        return float(
            sum(self.shares[i, n] for i, n in enumerate(numbers)) + self.borders[crossed].sum()
        )

    def error(self, point: Point) -> float:
        return sum(float(self.errors[i, point[name]]) for i, name in enumerate(LAYERS))

    def every(self) -> list[dict[str, int]]:
        chosen = itertools.product(range(len(OPTIONS)), repeat=len(LAYERS))
        return [dict(zip(LAYERS, numbers, strict=True)) for numbers in chosen]


@pytest.mark.parametrize("border", [0.0, 0.15])
@pytest.mark.parametrize("seed", range(4))
def test_it_equals_brute_force_at_every_bound(seed: int, border: float) -> None:
    world = World(seed, border)
    front = chain_front(chain_of(world.context), errors_of(world.context), resolution=1e-9)
    every = [(world.ratio(point), world.error(point)) for point in world.every()]
    for bound in np.linspace(0.25, 1.1, 30):
        inside = [error for ratio, error in every if ratio <= bound]
        answer = front.best_within(bound)
        assert (answer is None) == (not inside)
        if answer is not None:
            assert front.errors[answer] == pytest.approx(min(inside))


@pytest.mark.parametrize("seed", range(4))
def test_its_answers_have_the_latency_and_the_error_that_it_says(seed: int) -> None:
    world = World(seed, border=0.15)
    chain = chain_of(world.context)
    front = chain_front(chain, errors_of(world.context))
    for answer in range(len(front.errors)):
        point = chain.point(front.numbers(answer))
        assert world.ratio(point) == pytest.approx(front.latencies[answer])
        assert world.error(point) == pytest.approx(front.errors[answer])


def test_a_coarse_resolution_stays_inside_and_near() -> None:
    world = World(1, border=0.1)
    chain, errors = chain_of(world.context), errors_of(world.context)
    fine, coarse = (chain_front(chain, errors, step) for step in (1e-9, 0.01))
    assert len(coarse.errors) < len(fine.errors)
    for bound in np.linspace(coarse.latencies[0], 1.0, 10):
        exact, near = fine.best_within(bound), coarse.best_within(bound)
        assert exact is not None
        assert near is not None
        assert coarse.latencies[near] <= bound
        wider = fine.best_within(bound - 0.01 * len(LAYERS))
        if wider is not None:
            assert coarse.errors[near] <= fine.errors[wider]


@pytest.mark.parametrize("seed", range(4))
def test_points_are_inside_the_predicted_bound_and_the_best_first(seed: int) -> None:
    world = World(seed, border=0.15)
    points = knapsack_points(world.context)
    best = min(world.error(p) for p in world.every() if world.ratio(p) <= 0.6)
    assert world.error(points[0]) == pytest.approx(best)
    assert all(world.ratio(point) <= 0.6 for point in points)


def test_a_predictor_that_is_no_chain_is_asked_until_its_bound_is_met() -> None:
    """Whoever compresses four layers pays for it, which no pair of neighbours shows."""
    world = World(2, border=0.0)

    def dearer(point: Point) -> float:
        return world.ratio(point) + 0.08 * (sum(n > 0 for n in point.values()) >= 4)

    context = StrategyContext(**{**vars(world.context), "predicted_ratio": dearer})
    points = knapsack_points(context)
    assert points
    assert all(dearer(point) <= 0.6 for point in points)


def test_a_bound_out_of_reach_gives_no_point() -> None:
    assert knapsack_points(World(0, border=0.1, bound=0.05).context) == []
