"""Knapsack: the least summed error inside the latency bound, exactly, by a chain programme.

Sources: seeds ROCKET (multi-choice knapsack) and L-GreCo (dynamic programme over costs). When it
helps: errors add up, as they nearly do at mild compression; it is done in a second. When it does
not: layers that ruin each other are chosen together, since alone each is harmless.
"""

from __future__ import annotations

from typing import Literal

from optuna.samplers import BaseSampler

from autosparse.search.allocation import AllocationSampler
from autosparse.search.chain import Floats, Point, errors_of
from autosparse.search.knapsack import knapsack_points
from autosparse.search.strategy import StrategyContext


class KnapsackSampler(AllocationSampler):
    """The knapsack's answers to the table's errors, then to disturbed ones."""

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context, errors_of(context), self._solved)

    def _solved(self, errors: Floats) -> list[Point]:
        return knapsack_points(self.context, self.chain(), self.priced(errors))


class Knapsack:
    """Exact under the belief that errors add up."""

    name = "knapsack"
    summary = "the least summed error inside the budget, exactly; when errors of layers add up"
    source = "AL2, AL3: L-GreCo, Alimohammadi et al. 2023, arXiv:2210.17357; ROCKET"
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return KnapsackSampler(context)
