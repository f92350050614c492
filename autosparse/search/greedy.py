"""Greedy points of a space: what the table alone says is nearest to the dense model inside a bound.

Source: the greedy knapsack rule (Dantzig 1957), on the chain latency of the predictor instead of
a plain sum. It believes that errors of layers add up, which they do not: its points are only where
a strategy begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from autosparse.levels import Dense, Precision
from autosparse.search.strategy import StrategyContext

Point = dict[str, int]
# Moves that are looked at with the predictor in one step, the best ones by the table.
_LOOKED_AT = 8
_TINY = 1e-12


def greedy_points(context: StrategyContext) -> list[Point]:
    """Points inside the predicted bound, from several beginnings and by two rules.

    Beginnings are the dense model, dense INT8 wherever there is one, and the fastest levels. A
    point over the bound is brought down by what costs least error for its time; then it is brought
    up as far as the bound allows, either by what gains most for its time or by what gains most.
    """
    found: list[Point] = []
    for start in _beginnings(context):
        inside = _brought_down(context, start)
        if inside is None:
            continue
        for rule in (_gain_for_time, _gain):
            point = _brought_up(context, inside, rule)
            if point not in found:
                found.append(point)
    return found


def _beginnings(context: StrategyContext) -> Iterator[Point]:
    levels = context.space.levels
    yield dict.fromkeys(levels, 0)
    yield {
        name: next(
            (
                index
                for index, level in enumerate(options)
                if level.precision is Precision.INT8 and isinstance(level.pattern, Dense)
            ),
            0,
        )
        for name, options in levels.items()
    }
    yield {name: len(options) - 1 for name, options in levels.items()}


def _brought_down(context: StrategyContext, start: Mapping[str, int]) -> Point | None:
    """The point with as many layers made faster as the bound needs; None where none suffice."""
    point, ratio = dict(start), context.predicted_ratio(start)
    while ratio > context.latency_bound:
        moves = sorted(
            (
                (_error(context, name, index) - _error(context, name, point[name]), name, index)
                for name, index in _other_options(context, point)
                if _seconds(context, name, index) < _seconds(context, name, point[name])
            ),
            key=lambda move: max(move[0], 0.0) / _saved(context, point, *move[1:]),
        )
        best: tuple[float, Point, float] | None = None
        for cost, name, index in moves[:_LOOKED_AT]:
            changed = {**point, name: index}
            faster = context.predicted_ratio(changed)
            if faster < ratio:
                rank = max(cost, 0.0) / (ratio - faster)
                best = min(best or (rank, changed, faster), (rank, changed, faster), key=_first)
        if best is None:
            # alone, a layer may only pay for conversions: take the table's word and go on
            if not moves:
                return None
            point[moves[0][1]] = moves[0][2]
            ratio = context.predicted_ratio(point)
        else:
            _, point, ratio = best
    return point


def _brought_up(
    context: StrategyContext, start: Mapping[str, int], rule: Callable[[float, float], float]
) -> Point:
    """The point with layers brought nearer to the dense model while the bound allows."""
    point, ratio = dict(start), context.predicted_ratio(start)
    refused: set[tuple[str, int]] = set()
    while True:
        moves = [
            (_error(context, name, point[name]) - _error(context, name, index), name, index)
            for name, index in _other_options(context, point)
            if (name, index) not in refused
        ]
        moves = [move for move in moves if move[0] > 0]
        moves.sort(key=lambda move: -rule(move[0], -_saved(context, point, *move[1:])))
        for _, name, index in moves[:_LOOKED_AT]:
            changed = {**point, name: index}
            changed_ratio = context.predicted_ratio(changed)
            if changed_ratio <= max(context.latency_bound, ratio):
                point, ratio = changed, changed_ratio
                break
            refused.add((name, index))
        else:
            if len(moves) <= _LOOKED_AT:
                return point


def _gain_for_time(gain: float, seconds: float) -> float:
    return gain / max(seconds, _TINY)


def _gain(gain: float, seconds: float) -> float:
    return gain


def _first(ranked: tuple[float, Point, float]) -> float:
    return ranked[0]


def _other_options(context: StrategyContext, point: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for name, options in context.space.levels.items():
        for index in range(len(options)):
            if index != point[name]:
                yield name, index


def _saved(context: StrategyContext, point: Mapping[str, int], name: str, index: int) -> float:
    """Seconds that a change saves by the table; never quite zero, negative where it costs."""
    saved = _seconds(context, name, point[name]) - _seconds(context, name, index)
    return saved if abs(saved) > _TINY else _TINY


def _seconds(context: StrategyContext, name: str, index: int) -> float:
    return context.seconds[name, context.space.levels[name][index]]


def _error(context: StrategyContext, name: str, index: int) -> float:
    return context.divergence[name, context.space.levels[name][index]]
