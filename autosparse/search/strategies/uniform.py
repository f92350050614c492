"""Uniform: every layer gives up the same share of its bits, as far as its levels allow."""

from __future__ import annotations

from typing import Literal

from optuna.samplers import BaseSampler

from autosparse.search.strategy import StrategyContext
from autosparse.search.thresholds import ThresholdSampler, uniform_scores


class Uniform:
    """What one would do without any scores."""

    name = "uniform"
    summary = (
        "the same compression everywhere; when it is asked what a search adds to the simplest rule"
    )
    source = "the usual practice"
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return ThresholdSampler(context, uniform_scores(context))
