"""Idea: a growing decay draws weights outside the pattern to zero; cutting them costs nothing then.

The decay knows the optimizer's step sizes, and there is no mask until it has done its work.

Source: seed NM4, CAST: Huang et al. 2025, "CAST: Continuous and Differentiable Semi-Structured
Sparsity-Aware Training for Large Language Models" (arXiv:2509.25996): its optimizer AdamS (adaptive
L1 decay), weight scaling, and the dense model as teacher.
Helps when: transformers are brought to N:M: the way is continuous, so that AdamW's moments mean
something on every step of it.
Does nothing when: there are so few steps that the decay is a cut.
Cost: a training with AdamW; the zeros are chosen anew every few steps until they settle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from autosparse.recovery.recovery import Moment, Recovery
from autosparse.recovery.schedules import ramp
from autosparse.recovery.trained_layer import TrainedLayer

# The optimizer's own; where nothing has a gradient yet, every weight moves by as much.
_EPSILON = 1e-8
# Of the mean: what is hardly used at all is not flung to zero at once.
_LEAST_ROOT = 1e-3


class CastConfig(BaseModel):
    """How strong the decay is, and when the pattern settles."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    decay: float = Field(default=1.0, gt=0.0)
    """Strength of the decay, in steps of the optimizer."""
    settled_from: float = Field(default=0.7, gt=0.0, lt=1.0)
    """Share of the training after which the zeros are cut and stay."""
    every: int = Field(default=10, ge=1)
    """Steps between two choices of zeros."""


def adaptive_l1_decay(weight: Tensor, mask: Tensor, second_moment: Tensor, amount: float) -> Tensor:
    """Draw the weights outside the mask to zero, and not beyond.

    A weight whose gradients are small would hardly be moved by a fixed pull in the loss; here the
    pull is divided by the root of its second moment, as its updates are.

    Args:
        weight: any shape.
        mask: True where the weight is kept as it is.
        second_moment: the optimizer's, of the same shape.
        amount: how far a weight of average second moment moves.
    """
    root = second_moment.sqrt() + _EPSILON
    reach = amount * root.mean() / root.clamp_min(_LEAST_ROOT * root.mean())
    return torch.where(mask, weight, weight.sign() * (weight.abs() - reach).relu())


class Cast(Recovery):
    """Adaptive decay towards the pattern, with a learned scale for every row."""

    name = "cast"
    summary = "weights outside the pattern are drawn to zero, until cutting them costs nothing"
    source = "NM4: CAST, Huang et al. 2025, arXiv:2509.25996"
    family = "regularizer"
    start = "dense"
    optimizer = "adamw"

    def __init__(self, config: CastConfig | None = None) -> None:
        self.config = config or CastConfig()

    def prepare(self, layers: Sequence[TrainedLayer]) -> None:
        """The first pattern, and a scale of 1 for every row."""
        super().prepare(layers)
        for layer in layers:
            layer.add_state("scale", torch.ones(len(layer.raw), 1), learned=True)

    def weight(self, layer: TrainedLayer, progress: float) -> Tensor:
        """The whole weight until the pattern settles, scaled by row."""
        kept = layer.raw * layer.mask if self.at_target(progress) else layer.raw
        return kept * layer.state("scale")

    def after_step(
        self, layers: Sequence[TrainedLayer], moment: Moment, optimizer: torch.optim.Optimizer
    ) -> None:
        """Decay. Its strength grows without bound as the pattern settles."""
        if self.at_target(moment.progress):
            return
        part = ramp(moment.progress, 0.0, self.config.settled_from)
        amount = moment.learning_rate * self.config.decay * part / (1.0 - part)
        for layer in layers:
            if moment.step % self.config.every == 0:
                layer.remask(layer.raw.detach().abs())
            second = optimizer.state[layer.raw].get("exp_avg_sq")
            if second is not None:
                with torch.no_grad():
                    layer.raw.copy_(adaptive_l1_decay(layer.raw, layer.mask, second, amount))

    def at_target(self, progress: float) -> bool:
        """Once the pattern has settled."""
        return progress >= self.config.settled_from
