"""Level-switch evolution: what one layer gives up, others use, and the predicted latency is kept.

Source: Sieberling et al. 2024 (seed EvoPress), at a latency instead of a sparsity. Selection has
three stages. This is the first: of 32 offspring, which the table rates without any data, one is
proposed, and the others leave no trace. The second and the third are the race's. A dozen proposals
run on the same sample of rows, and whatever ran so far competes for the next trial, which runs on
all rows that select. Between these two nothing grows: the paper's stages, fewer offspring on more
data each, are one here, since lowering a candidate takes as long as its sample does, and would be
paid at every stage again. It assumes neither that errors add up nor that more compression is more
error. Its population is the study, so that it survives a restart.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from autosparse.search.breeding import Breeder
from autosparse.search.chain import Point, errors_of
from autosparse.search.population import population_of
from autosparse.search.proposing import ProposingSampler
from autosparse.search.strategy import StrategyContext

_OFFSPRING = 32


class LevelSwitchSampler(ProposingSampler):
    """Breeds from the best known points of a space inside the latency bound."""

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context)
        self.errors = errors_of(context)

    def propose(self, study: optuna.Study, rng: np.random.Generator) -> Point | None:
        """Of many offspring inside the bound, half of the time the best by the table's errors.

        The other half it is any of them: errors of layers do not add up.
        """
        population, errors = population_of(self, study, rng), self.priced(self.errors)
        breeder = Breeder(population.chain, errors)
        offspring = population.new_ones(breeder.brood(*population.drawn(_OFFSPRING, rng), rng))
        if rng.random() < 0.5:
            layers = np.arange(len(errors))
            offspring = offspring[errors[layers, offspring].sum(axis=1).argsort(kind="stable")]
        return population.first_inside(offspring)


class Evolution:
    """EvoPress's search on the level table."""

    name = "evolution"
    summary = (
        "switches levels between layers inside the predicted latency; when no model of errors "
        "is to be trusted"
    )
    source = "AL1: Sieberling et al. 2024, EvoPress, arXiv:2410.14649"
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return LevelSwitchSampler(context)
