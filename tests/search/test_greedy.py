"""Greedy points: inside the bound, and as near to the dense model as their rule can say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autosparse.levels import Level
from autosparse.search import RecipeSpace, StrategyContext
from autosparse.search.greedy import greedy_points

DENSE, INT8, SPARSE = (
    Level.parse(text) for text in ("dense:fp32", "dense:int8", "block1x4@0.75:int8")
)
OPTIONS = (DENSE, INT8, SPARSE)
SECONDS = {DENSE: 1.0, INT8: 0.5, SPARSE: 0.25}
Point = Mapping[str, int]


def context(
    errors: Mapping[str, tuple[float, float, float]],
    bound: float,
    predicted: Callable[[Point], float] | None = None,
) -> StrategyContext:
    names = list(errors)

    def summed(point: Point) -> float:
        return sum(SECONDS[OPTIONS[point.get(name, 0)]] for name in names) / len(names)

    return StrategyContext(
        space=RecipeSpace("0" * 64, dict.fromkeys(names, OPTIONS)),
        seconds={(n, level): SECONDS[level] for n in names for level in OPTIONS},
        divergence={(n, o): e for n in names for o, e in zip(OPTIONS, errors[n], strict=True)},
        weight_error={(n, level): 0.0 for n in names for level in OPTIONS},
        lamp={(n, level): 0.0 for n in names for level in OPTIONS},
        latency_bound=bound,
        predicted_ratio=predicted or summed,
        seed=0,
    )


def error(given: StrategyContext, point: Point) -> float:
    return sum(given.divergence[n, OPTIONS[index]] for n, index in point.items())


def test_the_layers_that_bear_least_stay_dense() -> None:
    errors = {"a": (0.0, 9.0, 90.0), "b": (0.0, 1.0, 10.0), "c": (0.0, 2.0, 20.0)}
    given = context(errors, bound=(1.0 + 0.5 + 0.5) / 3)
    best = min(greedy_points(given), key=lambda point: error(given, point))
    assert best == {"a": 0, "b": 1, "c": 1}


def test_every_point_is_inside_the_bound() -> None:
    errors = {name: (0.0, 1.0 + i, 5.0 - i / 2) for i, name in enumerate("abcdef")}
    for bound in (0.3, 0.45, 0.6, 0.9):
        given = context(errors, bound)
        points = greedy_points(given)
        assert points
        assert all(given.predicted_ratio(point) <= bound for point in points)


def test_nothing_is_compressed_where_the_dense_model_is_inside() -> None:
    given = context({"a": (0.0, 1.0, 2.0)}, bound=1.0)
    assert {"a": 0} in greedy_points(given)


def test_a_bound_out_of_reach_gives_no_point() -> None:
    assert greedy_points(context({"a": (0.0, 1.0, 2.0)}, bound=0.1)) == []


def test_a_border_that_costs_more_than_a_layer_saves_is_crossed_together() -> None:
    """One layer in INT8 alone is slower than none: the table's word leads over the hill."""

    def with_borders(point: Point) -> float:
        changes = sum(point.get(a, 0) != point.get(b, 0) for a, b in ("ab", "bc", "cd"))
        return sum(SECONDS[OPTIONS[point.get(n, 0)]] for n in "abcd") / 4 + 0.2 * changes

    errors = dict.fromkeys("abcd", (0.0, 1.0, 50.0))
    given = context(errors, bound=0.55, predicted=with_borders)
    assert dict.fromkeys("abcd", 1) in greedy_points(given)
