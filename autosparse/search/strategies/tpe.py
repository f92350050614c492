"""Tree-structured Parzen estimator with the latency bound as a constraint."""

from __future__ import annotations

from typing import Literal

from optuna.samplers import BaseSampler, TPESampler

from autosparse.search.strategy import StrategyContext

_STARTUP_TRIALS = 10


class TreeParzenEstimator:
    """Optuna's TPE over ordered levels."""

    name = "tpe"
    summary = "Optuna's TPE; when there are few layers, or nothing is known about the space"
    source = "Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization"
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context; constraints are read from the trials."""
        return TPESampler(seed=context.seed, n_startup_trials=_STARTUP_TRIALS)
