"""ECoFLaP: coarse to fine; forward runs rate blocks of layers, and blocks share out the budget.

Source: Sung et al. 2024 (seed ECoFLaP). The table's cells are forward runs with one layer changed,
which is the zeroth-order gradient that the paper estimates; they are averaged over blocks. When it
helps: single layers' errors are noisy. When it does nothing: all blocks matter alike.
"""

from __future__ import annotations

from typing import Literal

from optuna.samplers import BaseSampler

from autosparse.search.strategy import StrategyContext
from autosparse.search.thresholds import ThresholdSampler, block_scores


class Ecoflap:
    """One threshold on block importance times the change of a layer's weights."""

    name = "ecoflap"
    summary = "importance of blocks by forward runs; when single layers' errors are noisy"
    source = "AL5: Sung et al. 2024, ECoFLaP, arXiv:2310.02998"
    objectives: Literal[1, 2] = 1

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return ThresholdSampler(context, block_scores(context))
