"""One threshold for all layers, LAMP worked by hand, and what blocks say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from autosparse.levels import Level
from autosparse.search import RecipeSpace, StrategyContext
from autosparse.search.lamp import lamp_scores_of
from autosparse.search.table_starts import table_starts
from autosparse.search.thresholds import (
    block_scores,
    lamp_scores,
    removed_bits,
    threshold_point,
    uniform_scores,
)

OPTIONS = tuple(Level.parse(text) for text in ("dense:fp32", "dense:int8", "2:4:int8"))
NAMES = ("a", "b", "c", "d")
SPEEDS = (1.0, 0.5, 0.25)


Scores = Mapping[tuple[str, Level], float]
CELLS = [(name, option) for name in NAMES for option in OPTIONS]


def context(
    bound: float, *, lamp: Scores | None = None, divergence: Scores | None = None
) -> StrategyContext:
    return StrategyContext(
        space=RecipeSpace("0" * 64, dict.fromkeys(NAMES, OPTIONS)),
        seconds={(n, o): SPEEDS[OPTIONS.index(o)] for n, o in CELLS},
        divergence=divergence or {(n, o): 0.1 * OPTIONS.index(o) for n, o in CELLS},
        weight_error={(n, o): 0.01 * OPTIONS.index(o) for n, o in CELLS},
        lamp=lamp or {(n, o): 0.01 * (o == OPTIONS[2]) for n, o in CELLS},
        latency_bound=bound,
        predicted_ratio=lambda point: sum(SPEEDS[point[n]] for n in NAMES) / len(NAMES),
        seed=0,
    )


def test_lamp_by_hand() -> None:
    # squares 1, 4, 9, 16: the scores are 1/30, 4/29, 9/25 and 16/16
    weight = np.array([[3.0, -1.0], [2.0, -4.0]], dtype=np.float32)
    found = lamp_scores_of(weight, [0.0, 0.25, 0.5, 0.75])
    assert found == pytest.approx([0.0, 1 / 30, 4 / 29, 9 / 25])


def test_lamp_of_a_layer_of_zeros_is_zero() -> None:
    assert lamp_scores_of(np.zeros((4, 4), dtype=np.float32), [0.5]) == [0.0]


def test_the_lowest_threshold_inside_the_bound_is_taken() -> None:
    given = context(bound=0.8)
    scores = np.array([[0, 4, 9], [0, 1, 9], [0, 3, 9], [0, 2, 9]], dtype=np.float64)
    assert threshold_point(given, scores) == {"a": 0, "b": 1, "c": 0, "d": 1}


def test_no_threshold_where_the_fastest_levels_are_outside() -> None:
    assert threshold_point(context(bound=0.2), uniform_scores(context(bound=0.2))) is None


def test_uniform_treats_all_layers_alike() -> None:
    point = threshold_point(context(bound=0.6), uniform_scores(context(bound=0.6)))
    assert point == dict.fromkeys(NAMES, 1)
    assert [removed_bits(option) for option in OPTIONS] == [0.0, 0.75, 0.875]


def test_lamp_gives_zeros_to_the_layer_that_minds_them_least() -> None:
    sparse = {"a": 0.5, "b": 0.001, "c": 0.2, "d": 0.3}
    cells = {(n, o): sparse[n] * (o == OPTIONS[2]) for n in NAMES for o in OPTIONS}
    given = context(bound=0.45, lamp=cells)
    assert threshold_point(given, lamp_scores(given)) == {"a": 1, "b": 2, "c": 1, "d": 1}


def test_blocks_that_matter_little_give_up_more() -> None:
    moved = {"a": 1.0, "b": 1.0, "c": 0.01, "d": 0.01}
    cells = {(n, o): moved[n] * OPTIONS.index(o) for n in NAMES for o in OPTIONS}
    given = context(bound=0.75, divergence=cells)
    scores = block_scores(given, layers_in_block=2)
    assert scores[2:].max() < scores[:2, 1].min()
    assert threshold_point(given, scores) == {"a": 0, "b": 0, "c": 1, "d": 1}


@pytest.mark.parametrize("bound", [0.3, 0.5, 0.8, 1.0])
def test_all_starts_are_inside_and_each_is_there_once(bound: float) -> None:
    given = context(bound)
    starts = table_starts(given)
    assert starts
    assert all(given.predicted_ratio(point) <= bound for point in starts)
    assert len({tuple(point.values()) for point in starts}) == len(starts)
