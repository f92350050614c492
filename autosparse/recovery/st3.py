"""Idea: a rising soft threshold; the gradient passes straight through it to the weights behind.

Source: seed TR4, ST-3: Vanderschueren & De Vleeschouwer 2023, "Are Straight-Through Gradients and
Soft-Thresholding All You Need for Sparse Training?" (arXiv:2212.01076).
Helps when: sparsity is high: weights cross zero smoothly in both directions while zeros come.
Does nothing when: the training is too short for the weights behind the threshold to move.
Cost: a training; a selection in every step while zeros come.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from autosparse.levels import Dense, Pattern
from autosparse.recovery.gradual import gradual_pattern
from autosparse.recovery.recovery import Moment, Recovery
from autosparse.recovery.schedules import ramp
from autosparse.recovery.shrink_then_cut import standing
from autosparse.recovery.trained_layer import TrainedLayer


class St3Config(BaseModel):
    """When zeros come."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ramp_end: float = Field(default=0.7, gt=0.0, lt=1.0)
    """Share of the training after which every zero is there, and stays."""


def thresholded(weight: Tensor, pattern: Pattern) -> Tensor:
    """What is left of weights above the border between kept and removed.

    Args:
        weight: (rows, K).
        pattern: where the border lies; of a block, every weight shrinks by the same factor.

    Returns:
        (rows, K): nothing jumps when a weight crosses the border.
    """
    if isinstance(pattern, Dense):
        return weight
    above = standing(weight.abs(), pattern)
    return weight * (1.0 - 1.0 / above.clamp_min(1.0))


class St3(Recovery):
    """Soft threshold forwards, straight through backwards."""

    name = "st3"
    summary = "a rising soft threshold, whose zeros learn on as if there were none"
    source = "TR4: ST-3, Vanderschueren & De Vleeschouwer 2023, arXiv:2212.01076"
    family = "gradient"
    cost = "a training; a selection in every step while zeros come"
    start = "dense"

    def __init__(self, config: St3Config | None = None) -> None:
        self.config = config or St3Config()

    def prepare(self, layers: Sequence[TrainedLayer]) -> None:
        """No zeros yet."""
        for layer in layers:
            layer.mask.fill_(True)
            layer.add_state("every_zero_is_there", torch.tensor(False))

    def weight(self, layer: TrainedLayer, progress: float) -> Tensor:
        """Thresholded while zeros come, masked from then on."""
        if layer.state("every_zero_is_there"):
            return layer.raw * layer.mask
        used = thresholded(layer.raw.detach(), self._pattern(layer, progress))
        return layer.raw + (used - layer.raw).detach()

    def after_step(
        self, layers: Sequence[TrainedLayer], moment: Moment, optimizer: torch.optim.Optimizer
    ) -> None:
        """Fix the zeros at the end of the ramp, with the weights as they were used."""
        if not self.at_target(moment.progress):
            return
        for layer in layers:
            if not layer.state("every_zero_is_there"):
                with torch.no_grad():
                    layer.remask(layer.raw.abs())
                    layer.raw.copy_(thresholded(layer.raw, layer.pattern) * layer.mask)
                layer.state("every_zero_is_there").fill_(True)

    def at_target(self, progress: float) -> bool:
        """Behind the ramp."""
        return progress >= self.config.ramp_end

    def _pattern(self, layer: TrainedLayer, progress: float) -> Pattern:
        return gradual_pattern(layer.pattern, ramp(progress, 0.0, self.config.ramp_end))
