"""Idea: grow zeros with large gradients, but also those that were hardly ever tried.

Source: seed TR9, DST-EE: Huang et al. 2022, "Dynamic Sparse Training via Balancing the
Exploration-Exploitation Trade-off" (arXiv:2211.16667). Its acquisition function is that of upper
confidence bounds: the size of the gradient, plus a bonus that falls with every visit.
Helps when: sparsity is very high: greedy growth drops and grows the same few weights for ever.
Does nothing when: the zeros were chosen well, or there are too few exchanges to explore.
Cost: a training; a count for every weight, and some selections every few steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from autosparse.recovery.drop_and_grow import DropAndGrow, DropAndGrowConfig
from autosparse.recovery.trained_layer import TrainedLayer


class DstEeConfig(DropAndGrowConfig):
    """Drop and grow, by gradient and novelty."""

    bonus: float = Field(default=0.1, ge=0.0)
    """The paper's c, in units of the layer's mean gradient: what novelty is worth. 0 is greedy
    growth by gradients (RigL)."""


def acquisition(gradient: Tensor, visits: Tensor, rounds: int, bonus: float) -> Tensor:
    """What growing a weight promises: its gradient, and what is not known of it yet.

    Args:
        gradient: any shape.
        visits: the same shape: at how many exchanges the weight was kept.
        rounds: exchanges so far.
        bonus: what novelty is worth, in units of the mean gradient.
    """
    size = gradient.abs()
    return size + bonus * size.mean() * math.log(rounds + 1) / (visits + 1.0)


class DstEe(DropAndGrow):
    """Zeros grow by gradient and novelty."""

    name = "dst_ee"
    summary = "the smallest weights are exchanged for zeros with large gradients or few tries"
    source = "TR9: DST-EE, Huang et al. 2022, arXiv:2211.16667"

    def __init__(self, config: DstEeConfig | None = None) -> None:
        super().__init__(config)
        self.bonus = (config or DstEeConfig()).bonus

    def states(self, layer: TrainedLayer) -> Mapping[str, Tensor]:
        """The last gradient, visits, and how many exchanges there were."""
        return {
            "gradient": torch.zeros_like(layer.raw),
            "visits": torch.zeros_like(layer.raw),
            "rounds": torch.tensor(0),
        }

    def look(self, layer: TrainedLayer, gradient: Tensor) -> None:
        """Keep the gradient."""
        layer.state("gradient").copy_(gradient)

    def growth(self, layer: TrainedLayer) -> Tensor:
        """Count this exchange, then score."""
        layer.state("visits").add_(layer.mask)
        rounds = layer.state("rounds").add_(1)
        gradient, visits = layer.state("gradient"), layer.state("visits")
        return acquisition(gradient, visits, int(rounds), self.bonus)
