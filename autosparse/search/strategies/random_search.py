"""Uniform random recipes: the control arm that every other strategy has to beat."""

from __future__ import annotations

from typing import Literal

from optuna.samplers import BaseSampler, RandomSampler

from autosparse.search.strategy import StrategyContext


class RandomSearch:
    """Independent uniform draws."""

    name = "random"
    summary = "uniform random recipes; the control arm of a study"
    source = "Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization"
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return RandomSampler(seed=context.seed)
