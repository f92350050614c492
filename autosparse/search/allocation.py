"""Strategies that share out a budget by a rule: its own answer, then those to disturbed scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import optuna

from autosparse.search.chain import Floats, Point
from autosparse.search.proposing import ProposingSampler
from autosparse.search.strategy import StrategyContext

Rule = Callable[[Floats], Sequence[Point]]
"""Points that follow from (layers, levels) scores, the best first."""
_DRAWS = 8
_FIRST_DISTURBANCE, _GROWTH, _LARGEST = 0.1, 1.1, 1.0
# After so many trials the disturbance is the largest: of thousands, the power is no number.
_MOST_GROWN = 25


class AllocationSampler(ProposingSampler):
    """Proposes what a rule makes of scores, and of scores that are disturbed more and more.

    Args:
        context: space, scores, bound and predictor.
        scores: (layers, levels), infinite where there is no such level.
        rule: from scores to points.
    """

    def __init__(self, context: StrategyContext, scores: Floats, rule: Rule) -> None:
        super().__init__(context)
        self._scores, self._rule = scores, rule

    def propose(self, study: optuna.Study, rng: np.random.Generator) -> Point | None:
        """The rule's own answer until it is known, then a disturbed one."""
        disturbance = 0.0
        for _ in range(_DRAWS):
            noise = rng.standard_normal(self._scores.shape)
            for point in self._rule(self._scores * np.exp(disturbance * noise)):
                if self.is_new(point):
                    return point
            grown = _FIRST_DISTURBANCE * _GROWTH ** min(len(self.evidence), _MOST_GROWN)
            disturbance = min(max(2 * disturbance, grown), _LARGEST)
        return None
