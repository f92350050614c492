"""NSGA-II on quality and latency: a front rather than one point."""

from __future__ import annotations

from typing import Literal

from optuna.samplers import BaseSampler, NSGAIISampler

from autosparse.search.strategy import StrategyContext

_POPULATION = 20


class Nsga2:
    """Optuna's NSGA-II over ordered levels, two objectives."""

    name = "nsga2"
    summary = "Optuna's NSGA-II on divergence and latency; what `front` is compared with"
    source = "Deb et al. 2002, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II"
    objectives: Literal[1, 2] = 2

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context; constraints are read from the trials."""
        return NSGAIISampler(seed=context.seed, population_size=_POPULATION)
