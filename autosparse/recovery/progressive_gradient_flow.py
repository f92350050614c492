"""Idea: what is pruned fades from 1 to 0, and with it the gradient that still flows to it.

Source: seed NM2, Bambhaniya et al. 2024, "Progressive Gradient Flow for Robust N:M Sparsity
Training in Transformers" (arXiv:2402.04744), its mask decay.
Helps when: few of a group's weights are kept (1:4, 1:8, 90 % and more): the straight-through
gradients of SR-STE are mostly noise there.
Does nothing when: the training is too short to fade anything.
Cost: a training; the zeros are chosen anew every few steps while they fade.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from autosparse.recovery.recovery import Moment, Recovery
from autosparse.recovery.schedules import ramp
from autosparse.recovery.trained_layer import TrainedLayer


class ProgressiveGradientFlowConfig(BaseModel):
    """How pruned weights fade."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    faded_from: float = Field(default=0.6, gt=0.0, lt=1.0)
    """Share of the training after which pruned weights are zero and get no gradient."""
    every: int = Field(default=4, ge=1)
    """Steps between two choices of zeros."""


def faded(weight: Tensor, mask: Tensor, factor: float) -> Tensor:
    """The weight, pruned elements times a factor: their gradients are faded by it, too."""
    return weight * torch.where(mask, 1.0, factor)


class ProgressiveGradientFlow(Recovery):
    """Pruned weights and their gradients fade linearly."""

    name = "progressive_gradient_flow"
    summary = "pruned weights fade out, and with them the gradient that flows to them"
    source = "NM2: Bambhaniya et al. 2024, arXiv:2402.04744"
    family = "gradient"
    start = "dense"

    def __init__(self, config: ProgressiveGradientFlowConfig | None = None) -> None:
        self.config = config or ProgressiveGradientFlowConfig()

    def weight(self, layer: TrainedLayer, progress: float) -> Tensor:
        """Faded by as much as is due."""
        return faded(layer.raw, layer.mask, 1.0 - ramp(progress, 0.0, self.config.faded_from))

    def after_step(
        self, layers: Sequence[TrainedLayer], moment: Moment, optimizer: torch.optim.Optimizer
    ) -> None:
        """Choose what fades; once it is gone, nothing is chosen any more."""
        if not self.at_target(moment.progress) and moment.step % self.config.every == 0:
            for layer in layers:
                layer.remask(layer.raw.detach().abs())

    def at_target(self, progress: float) -> bool:
        """Once everything that is pruned is gone."""
        return progress >= self.config.faded_from
