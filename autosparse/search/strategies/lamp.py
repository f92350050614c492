"""LAMP: one threshold on layer-adaptive magnitudes shares out the zeros.

Source: Lee et al. 2021 (seed LAMP). When it helps: levels with zeros, and no data to judge them by.
When it does nothing: levels that differ in their number format only, about which magnitudes say
nothing. Cost: sorting the weights once.
"""

from __future__ import annotations

from typing import Literal

from optuna.samplers import BaseSampler

from autosparse.search.strategy import StrategyContext
from autosparse.search.thresholds import ThresholdSampler, lamp_scores


class Lamp:
    """One global threshold on LAMP scores."""

    name = "lamp"
    summary = "one threshold on layer-adaptive magnitudes; when zeros are shared out without data"
    source = "AL4: Lee et al. 2021, LAMP, arXiv:2010.07611"
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return ThresholdSampler(context, lamp_scores(context))
