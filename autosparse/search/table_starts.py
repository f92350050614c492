"""Where every search begins: what follows from the table and the predictor, without a trial."""

from __future__ import annotations

from autosparse.search.chain import Point, chain_of, errors_of
from autosparse.search.greedy import greedy_points
from autosparse.search.knapsack import knapsack_points
from autosparse.search.size_price import priced
from autosparse.search.strategy import StrategyContext
from autosparse.search.thresholds import block_scores, lamp_scores, threshold_point, uniform_scores


def table_starts(context: StrategyContext) -> list[Point]:
    """Points inside the predicted bound: knapsack, greedy, uniform, LAMP and block importance.

    None where the predictor sees no point inside.
    """
    found = [*knapsack_points(context), *greedy_points(context)]
    if context.size_limit is not None:
        chain, errors = chain_of(context), errors_of(context)
        found += knapsack_points(context, chain, priced(context, chain, errors))
    for scores in (uniform_scores, lamp_scores, block_scores):
        point = threshold_point(context, scores(context))
        if point is not None:
            found.append(point)
    unique: list[Point] = []
    for point in found:
        chosen = {name: point[name] for name in context.space.distributions()}
        if chosen not in unique:
            unique.append(chosen)
    return unique
