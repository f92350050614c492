"""The guided evolution along the whole front: a budget is drawn for every proposal.

Source: as `auto`. For the answer at every budget at once, at the price of a slower answer at one:
half of the trials are for the contract's bound, the others for bounds below it. It is the front of
divergence and latency: size and peak memory are limits here, as everywhere, and nothing is looked
for at smaller ones.
"""

from __future__ import annotations

from typing import Literal

from optuna.samplers import BaseSampler

from autosparse.search.strategies.auto import GuidedSampler
from autosparse.search.strategy import StrategyContext


class Front:
    """`auto` with two objectives."""

    name = "front"
    summary = (
        "guided evolution at a budget drawn for each proposal; when the whole front of divergence "
        "and latency is wanted"
    )
    source = "AL1, AL2, AL3: as auto"
    objectives: Literal[1, 2] = 2

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context."""
        return GuidedSampler(context)
