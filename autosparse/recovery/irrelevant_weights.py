"""Idea: a decay that spares the weights which the loss is sensitive to, and zeros by and by.

Source: seed TR8, Bonetta et al. 2022, "Regularization-based Pruning of Irrelevant Weights in Deep
Neural Architectures" (arXiv:2204.04977). What has a large gradient, on average over some steps, is
relevant and has the plain update; the others shrink the more, the less relevant they are, and what
has become smallest is cut again and again. When, follows the cubic schedule of `gradual`.
Helps when: weight decay and cuts by magnitude are nearly enough.
Does nothing when: gradients of all weights are of one size.
Cost: a training; a mean gradient for every weight; zeros are chosen anew some dozens of times.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from autosparse.recovery.gradual import Gradual, GradualConfig
from autosparse.recovery.recovery import Moment
from autosparse.recovery.schedules import ramp
from autosparse.recovery.trained_layer import TrainedLayer


class IrrelevantWeightsConfig(GradualConfig):
    """How strong the decay is, how relevance is averaged, and when zeros come."""

    strength: float = Field(default=3.0, ge=0.0)
    """How often a weight that is never relevant has shrunk by e when every zero is there."""
    smoothing: float = Field(default=0.9, ge=0.0, lt=1.0)
    """What is left of the mean sensitivity after a step."""


def selective_decay(weight: Tensor, relevance: Tensor, rate: float) -> Tensor:
    """Weights that shrink the more, the less relevant they are.

    Args:
        weight: any shape.
        relevance: of each; from 1 on, it is spared.
        rate: of the shrinkage of what is irrelevant altogether, as a power of e.
    """
    return weight * torch.exp(-rate * (1.0 - relevance).clamp_min(0.0))


class IrrelevantWeights(Gradual):
    """A decay by sensitivity, and the cubic schedule."""

    name = "irrelevant_weights"
    summary = (
        "weights shrink the more, the less the loss is sensitive to them; zeros come by and by"
    )
    source = "TR8: Bonetta et al. 2022, arXiv:2204.04977"
    family = "regularizer"

    def __init__(self, config: IrrelevantWeightsConfig | None = None) -> None:
        super().__init__(config)
        self.decay = config or IrrelevantWeightsConfig()

    def prepare(self, layers: Sequence[TrainedLayer]) -> None:
        """No zeros yet, and nothing known of sensitivity."""
        super().prepare(layers)
        for layer in layers:
            layer.add_state("sensitivity", torch.zeros_like(layer.raw))

    def after_backward(self, layers: Sequence[TrainedLayer], moment: Moment) -> None:
        """Add to the mean size of gradients."""
        for layer in layers:
            if layer.raw.grad is not None and not self.at_target(moment.progress):
                mean = layer.state("sensitivity")
                mean.lerp_(layer.raw.grad.abs(), 1.0 - self.decay.smoothing)

    def after_step(
        self, layers: Sequence[TrainedLayer], moment: Moment, optimizer: torch.optim.Optimizer
    ) -> None:
        """Decay, then cut what is due."""
        if not self.at_target(moment.progress):
            part = ramp(moment.progress, 0.0, self.decay.ramp_end)
            rate = self.decay.strength * part / max(moment.step, 1)
            for layer in layers:
                mean = layer.state("sensitivity")
                relevance = mean / mean.mean().clamp_min(torch.finfo(mean.dtype).tiny)
                with torch.no_grad():
                    layer.raw.copy_(selective_decay(layer.raw, relevance, rate))
        super().after_step(layers, moment, optimizer)
