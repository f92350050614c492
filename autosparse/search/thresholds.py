"""One threshold for all layers: each takes the fastest level whose score stays below it.

The scores say what a level takes away from its layer. Where they are comparable between layers,
one threshold shares out a latency budget without any search.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autosparse.levels import Level, Precision
from autosparse.search.allocation import AllocationSampler
from autosparse.search.chain import Floats, Point, per_level
from autosparse.search.strategy import StrategyContext

_BITS = {Precision.FP32: 32, Precision.BF16: 16, Precision.INT8: 8, Precision.INT4: 4}


def threshold_point(context: StrategyContext, scores: Floats) -> Point | None:
    """The point at the lowest threshold that the predictor sees inside the bound.

    Args:
        context: space, bound and predictor.
        scores: (layers, levels), what each level takes away; infinite where there is none.

    Returns:
        None where even the fastest levels are outside.
    """
    thresholds = np.unique(scores[np.isfinite(scores)])
    low, high = 0, len(thresholds)
    while low < high:
        middle = (low + high) // 2
        if _is_inside(context, at_threshold(context, scores, thresholds[middle])):
            high = middle
        else:
            low = middle + 1
    return at_threshold(context, scores, thresholds[low]) if low < len(thresholds) else None


def at_threshold(context: StrategyContext, scores: Floats, threshold: float) -> Point:
    """Every layer at its fastest level whose score is no higher; at its slowest where none is."""
    names = context.space.distributions()
    return {
        name: int(np.flatnonzero(row <= threshold).max(initial=0))
        for name, row in zip(names, scores, strict=True)
    }


def uniform_scores(context: StrategyContext) -> Floats:
    """Share of the bits that a level removes: the same levels everywhere."""
    removed = {(n, o): removed_bits(o) for n, xs in context.space.levels.items() for o in xs}
    return per_level(context, removed)


def removed_bits(level: Level) -> float:
    """Share of the weights' bits that a level does without."""
    return 1.0 - (1.0 - level.sparsity) * _BITS[level.precision] / 32


def lamp_scores(context: StrategyContext) -> Floats:
    """LAMP's score of the smallest weight that a level keeps: comparable between layers."""
    return _with_ties_broken(context, context.lamp)


def block_scores(context: StrategyContext, layers_in_block: int = 4) -> Floats:
    """What a level does to its weights, times how much the model minds that in this block.

    A block's importance is how far the outputs move for the weights' relative error, forward runs
    only, averaged over the levels of its layers: single layers are too noisy to be trusted.
    """
    moved, changed = (
        per_level(context, context.divergence),
        per_level(context, context.weight_error),
    )
    real = np.isfinite(moved) & (changed > 0) & np.isfinite(changed)
    scores = np.where(np.isfinite(changed), np.sqrt(np.maximum(changed, 0.0)), np.inf)
    for start in range(0, len(scores), layers_in_block):
        block = slice(start, start + layers_in_block)
        ratios = moved[block][real[block]] / np.sqrt(changed[block][real[block]])
        if len(ratios):
            own = scores[block]
            np.multiply(own, ratios.mean(), out=own, where=np.isfinite(own))
    return scores


def _with_ties_broken(
    context: StrategyContext, scores: Mapping[tuple[str, Level], float]
) -> Floats:
    """Scores of zeros say nothing of a number format: those follow in the order of their bits."""
    table, bits = per_level(context, scores), uniform_scores(context)
    finite = table[np.isfinite(table)]
    smallest = finite[finite > 0].min(initial=1.0)
    return np.where(table == 0, bits * smallest * 0.5, table)


def _is_inside(context: StrategyContext, point: Point) -> bool:
    return context.predicted_ratio(point) <= context.latency_bound


class ThresholdSampler(AllocationSampler):
    """The point at one threshold, then those of disturbed scores.

    Args:
        context: space, bound and predictor.
        scores: (layers, levels), what each level takes away; infinite where there is none.
    """

    def __init__(self, context: StrategyContext, scores: Floats) -> None:
        super().__init__(context, scores, self._solved)

    def _solved(self, scores: Floats) -> list[Point]:
        point = threshold_point(self.context, scores)
        return [] if point is None else [point]
