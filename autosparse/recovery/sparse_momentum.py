"""Idea: grow the zeros whose gradients have long pointed the same way: their momentum is large.

Source: seed TR2, Dettmers & Zettlemoyer 2019, "Sparse Networks from Scratch: Faster Training
without Losing Performance" (arXiv:1907.04840). There the freed weights also go from layer to layer
by mean momentum; here a recipe says how many a layer has, since levels were chosen for their
latency, and only within a layer do they go where momentum is.
Helps when: gradients of single batches are noisy, as with small batches: their mean is not.
Does nothing when: the zeros were chosen well, or the training is too short for a second choice.
Cost: a training; the mean gradient of every weight, and some selections every few steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from autosparse.recovery.drop_and_grow import DropAndGrow, DropAndGrowConfig
from autosparse.recovery.trained_layer import TrainedLayer


class SparseMomentumConfig(DropAndGrowConfig):
    """Drop and grow, by a mean gradient."""

    smoothing: float = Field(default=0.9, ge=0.0, lt=1.0)
    """What is left of the mean gradient after a step."""


def smoothed(mean: Tensor, gradient: Tensor, smoothing: float) -> Tensor:
    """The exponential mean with one more gradient."""
    return smoothing * mean + (1.0 - smoothing) * gradient


class SparseMomentum(DropAndGrow):
    """Zeros grow by the size of their mean gradient."""

    name = "sparse_momentum"
    summary = "the smallest weights are exchanged for zeros whose mean gradient is largest"
    source = "TR2: Dettmers & Zettlemoyer 2019, arXiv:1907.04840"

    def __init__(self, config: SparseMomentumConfig | None = None) -> None:
        super().__init__(config)
        self.smoothing = (config or SparseMomentumConfig()).smoothing

    def states(self, layer: TrainedLayer) -> Mapping[str, Tensor]:
        """The mean gradient."""
        return {"mean_gradient": torch.zeros_like(layer.raw)}

    def look(self, layer: TrainedLayer, gradient: Tensor) -> None:
        """Add to the mean."""
        mean = layer.state("mean_gradient")
        mean.copy_(smoothed(mean, gradient, self.smoothing))

    def growth(self, layer: TrainedLayer) -> Tensor:
        """Its size."""
        return layer.state("mean_gradient").abs()
