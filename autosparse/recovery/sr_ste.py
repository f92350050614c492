"""Idea: choose the zeros anew in every step; a pruned weight still learns, and is drawn to zero.

Source: seed NM1, SR-STE: Zhou et al. 2021, "Learning N:M Fine-grained Structured Sparse Neural
Networks From Scratch" (arXiv:2102.04010). Its pull is a constant decay, meant for hundreds of
thousands of steps: in the thousand of a recovery it would take a hundredth of a weight away. Here
it grows with the time that has gone: what no gradient holds is zero when the zeros settle.
Helps when: the pattern is N:M or blocks, where a bad first choice of zeros costs most: a weight
that was pruned by mistake can come back.
Does nothing when: the training is too short for the zeros to settle.
Cost: a training; the zeros are chosen anew in every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from autosparse.recovery.recovery import Moment, Recovery
from autosparse.recovery.schedules import fading
from autosparse.recovery.shrink_then_cut import softly_shrunk
from autosparse.recovery.trained_layer import TrainedLayer


class SrSteConfig(BaseModel):
    """How strongly pruned weights are drawn to zero, and until when zeros move."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    strength: float = Field(default=1.0, ge=0.0)
    """A pruned weight that no gradient holds is as large as the time left until zeros settle to
    this power. 0 is the plain straight-through estimator."""
    settled_from: float = Field(default=0.75, gt=0.0, le=1.0)
    """Share of the training after which zeros stay where they are."""


def straight_through(weight: Tensor, mask: Tensor) -> Tensor:
    """The masked weight; its gradient goes to every weight, pruned ones included."""
    return weight + (weight * mask - weight).detach()


class SrSte(Recovery):
    """Straight-through zeros with the sparse-refined pull."""

    name = "sr_ste"
    summary = "zeros are chosen in every step; pruned weights learn on and are drawn to zero"
    source = "NM1: SR-STE, Zhou et al. 2021, arXiv:2102.04010"
    family = "gradient"
    start = "dense"

    def __init__(self, config: SrSteConfig | None = None) -> None:
        self.config = config or SrSteConfig()

    def weight(self, layer: TrainedLayer, progress: float) -> Tensor:
        """Straight-through while zeros move, masked from then on."""
        if progress >= self.config.settled_from:
            return layer.raw * layer.mask
        return straight_through(layer.raw, layer.mask)

    def after_step(
        self, layers: Sequence[TrainedLayer], moment: Moment, optimizer: torch.optim.Optimizer
    ) -> None:
        """Draw what was pruned to zero, and choose the zeros of the next step."""
        config = self.config
        if moment.progress >= config.settled_from:
            return
        rate = fading(moment.progress, moment.step, config.settled_from, config.strength)
        for layer in layers:
            with torch.no_grad():
                layer.raw.copy_(softly_shrunk(layer.raw, layer.mask, rate))
            layer.remask(layer.raw.detach().abs())
