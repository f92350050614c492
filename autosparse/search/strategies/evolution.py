"""Level-switch evolution: move one layer down and another up, keep the predicted latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from autosparse.search.strategy import StrategyContext

_PARENTS = 8
_OFFSPRING = 24
_ATTEMPTS = 200
_MOST_SWITCHES = 4
# Offspring may be predicted this much above the bound: what is near it is measured, not believed.
_TOLERANCE = 0.01


class LevelSwitchSampler(BaseSampler):
    """Mutates the best known points of a space inside the latency bound.

    Args:
        context: space, scores, bound and predictor.
    """

    def __init__(self, context: StrategyContext) -> None:
        self._context = context
        self._highest = {name: d.high for name, d in context.space.distributions().items()}
        self._rng = np.random.default_rng(context.seed)
        self._fallback = RandomSampler(seed=context.seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole space: a mutation is of a recipe, never of a parameter alone."""
        return dict(self._context.space.distributions())

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One new point: of many mutations inside the bound, the most promising."""
        known = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        seen = {tuple(t.params[name] for name in search_space) for t in known}
        parents = self._parents(known)
        offspring: list[dict[str, int]] = []
        for _ in range(_ATTEMPTS):
            child = self._mutate(parents[int(self._rng.integers(len(parents)))])
            point = tuple(child[name] for name in search_space)
            if point not in seen and self._context.predicted_ratio(child) <= self._bound:
                seen.add(point)
                offspring.append(child)
            if len(offspring) == _OFFSPRING:
                break
        if not offspring:
            return {}
        # half of the time by the table's errors, half at random: errors of layers do not add up
        if self._rng.random() < 0.5:
            return min(offspring, key=self._summed_divergence)
        return offspring[int(self._rng.integers(len(offspring)))]

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Where no mutation is new and inside the bound, a random point."""
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    @property
    def _bound(self) -> float:
        return self._context.latency_bound * (1 + _TOLERANCE)

    def _parents(self, known: list[FrozenTrial]) -> list[dict[str, int]]:
        """The best points inside the bound; the fastest point where there is none."""
        inside = [t for t in known if all(v <= _TOLERANCE for v in t.constraints.values())]
        best = sorted(inside, key=lambda t: float(t.values[0]))[:_PARENTS]
        return [dict(t.params) for t in best] or [self._highest]

    def _mutate(self, parent: Mapping[str, int]) -> dict[str, int]:
        """Switch levels: some layers one step down, as many one step up, or one of either."""
        child = dict(parent)
        count = min(int(self._rng.geometric(0.5)), _MOST_SWITCHES)
        both_ways = self._rng.random() < 0.7
        for step in (1, -1) if both_ways else (int(self._rng.choice([1, -1])),):
            movable = [n for n, top in self._highest.items() if 0 <= child[n] + step <= top]
            for index in self._rng.permutation(len(movable))[:count]:
                child[movable[index]] += step
        return child

    def _summed_divergence(self, point: Mapping[str, int]) -> float:
        levels = self._context.space.recipe(point).levels
        return sum(self._context.divergence[item] for item in levels.items())


class Evolution:
    """EvoPress's search on the level table, at a latency instead of a sparsity."""

    name = "evolution"
    summary = "switches levels between layers inside the predicted latency; the default"
    source = "Sieberling et al. 2024, EvoPress, arXiv:2410.14649"
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return LevelSwitchSampler(context)
