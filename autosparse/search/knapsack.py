"""The multi-choice knapsack: least summed error under a latency bound, by a chain programme.

Sources: ROCKET (a multi-choice knapsack over the levels of layers) and L-GreCo (a dynamic programme
over discretised cost), extended by the cost of passing from one layer to the next. It believes that
errors of layers add up: its answers are where a search begins, not where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autosparse.search.chain import Chain, Floats, Ints, Point, chain_of, errors_of
from autosparse.search.strategy import StrategyContext

# Partial answers whose latencies differ by less than this share of the baseline's are one.
RESOLUTION = 1 / 4000
_CORRECTIONS = 8
# The predictor is not a chain: below this share of the bound nothing is gained by going nearer.
_NEAR = 0.002
_ROUNDING = 1e-12


@dataclass(frozen=True)
class _Labels:
    """Partial answers that end with one level of one layer, fastest first."""

    latencies: Floats
    errors: Floats
    came_from: Ints
    """(labels, 2): level of the layer before, and which of its labels."""


@dataclass(frozen=True)
class ChainFront:
    """Every trade of latency for summed error that no other one beats, fastest first."""

    latencies: Floats
    """(answers,), rising."""
    errors: Floats
    """(answers,), falling."""
    _ends: Ints
    _stages: list[list[_Labels]]

    def best_within(self, bound: float) -> int | None:
        """The answer with the least error inside the bound; None where none is."""
        inside = int(np.searchsorted(self.latencies, bound + _ROUNDING, side="right"))
        return inside - 1 if inside else None

    def numbers(self, answer: int) -> Ints:
        """(layers,): the levels of one answer, followed back from the last layer to the first."""
        level, index = (int(end) for end in self._ends[answer])
        found = []
        for stage in reversed(self._stages):
            found.append(level)
            level, index = (int(end) for end in stage[level].came_from[index])
        return np.array(found[::-1], dtype=np.int64)


def chain_front(chain: Chain, errors: Floats, resolution: float = RESOLUTION) -> ChainFront:
    """Solve the knapsack for all bounds at once.

    Exact where no more than one partial answer falls into a step of the resolution; otherwise
    the one with the least error stands for all in its step.

    Args:
        chain: latency.
        errors: (layers, levels), infinite where there is no such level.
        resolution: width of a step, as a share of the baseline's latency.
    """
    start = np.array([[-1, -1]], dtype=np.int64)
    stages: list[list[_Labels]] = []
    for layer in range(len(chain.names)):
        stage: list[_Labels] = []
        for level in range(errors.shape[1]):
            alone, error = chain.alone[layer, level], errors[layer, level]
            if not np.isfinite(alone):
                stage.append(_thinned(np.empty(0), np.empty(0), start[:0], resolution))
            elif not stages:
                stage.append(_Labels(np.array([chain.base + alone]), np.array([error]), start))
            else:
                latencies, summed, came_from = _continued(
                    stages[-1], chain.joint[layer - 1, :, level]
                )
                stage.append(_thinned(latencies + alone, summed + error, came_from, resolution))
        stages.append(stage)
    if not stages:
        return ChainFront(np.array([chain.base]), np.zeros(1), start, stages)
    ends = _continued(stages[-1], np.zeros(len(stages[-1])))
    last = _thinned(*ends, resolution)
    return ChainFront(last.latencies, last.errors, last.came_from, stages)


def knapsack_points(
    context: StrategyContext, chain: Chain | None = None, errors: Floats | None = None
) -> list[Point]:
    """The least summed error inside the predicted bound, the best first.

    The predictor knows more than a chain: the chain's bound is moved until its answer is inside
    the predictor's, and as near to it as it can be.

    Args:
        context: space, scores, bound and predictor.
        chain: latency, where it is known already.
        errors: (layers, levels) in place of the table's.
    """
    chain = chain or chain_of(context)
    errors = errors_of(context) if errors is None else errors
    front = chain_front(chain, errors)
    bound, target = context.latency_bound, context.latency_bound
    found: dict[int, Point] = {}
    for _ in range(_CORRECTIONS):
        answer = front.best_within(target)
        if answer is None:
            break
        point = chain.point(front.numbers(answer))
        left = bound - context.predicted_ratio(point)
        if left >= 0:
            found[answer] = point
            if left <= _NEAR * bound or answer + 1 == len(front.latencies):
                break
        target = min(target, front.latencies[answer]) + left if left < 0 else target + left
        following = front.best_within(target)
        if following in found or following == answer:
            break
    return [found[answer] for answer in sorted(found, reverse=True)]


def _continued(before: list[_Labels], joint: Floats) -> tuple[Floats, Floats, Ints]:
    """All labels of the layer before, with what passing on from their level costs."""
    latencies = [labels.latencies + joint[level] for level, labels in enumerate(before)]
    came_from = [
        np.column_stack([np.full(len(labels.errors), level), np.arange(len(labels.errors))])
        for level, labels in enumerate(before)
    ]
    errors = np.concatenate([labels.errors for labels in before])
    return np.concatenate(latencies), errors, np.concatenate(came_from)


def _thinned(latencies: Floats, errors: Floats, came_from: Ints, resolution: float) -> _Labels:
    """Only labels that no other one beats, and one for each step of the resolution."""
    order = np.lexsort((errors, latencies))
    latencies, errors, came_from = latencies[order], errors[order], came_from[order]
    best = np.minimum.accumulate(errors) if len(errors) else errors
    kept = np.ones(len(errors), dtype=bool)
    kept[1:] = errors[1:] < best[:-1]
    latencies, errors, came_from = latencies[kept], errors[kept], came_from[kept]
    steps = np.floor(latencies / resolution)
    last = np.ones(len(steps), dtype=bool)
    last[:-1] = steps[1:] != steps[:-1]
    # the fastest of all stays, so that what can be met is met
    last[:1] = True
    return _Labels(latencies[last], errors[last], came_from[last])
