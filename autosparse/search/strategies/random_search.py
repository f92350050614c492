"""Uniform random recipes: the control arm that every other strategy has to beat.

Draws are those of the seed and of how many there were, so that a resumed search goes on where it
was; a recipe that is known is not drawn again.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from autosparse.search.chain import Point
from autosparse.search.proposing import ProposingSampler
from autosparse.search.strategy import StrategyContext


class UniformSampler(ProposingSampler):
    """Draws every parameter by itself."""

    def propose(self, study: optuna.Study, rng: np.random.Generator) -> Point | None:
        """Nothing comes to its mind: a random point is drawn."""
        return None


class RandomSearch:
    """Independent uniform draws."""

    name = "random"
    summary = "uniform random recipes; when it is asked what a strategy is worth: the control arm"
    source = (
        "AL7: Random Search as a Baseline for Sparse Neural Network Architecture Search; against "
        "grids, Bergstra and Bengio 2012"
    )
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return UniformSampler(context)
