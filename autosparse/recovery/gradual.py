"""Idea: start dense and let the smallest weights become zero little by little while training.

Source: seed TR1, Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878).
Helps when: sparsity is high and there is time: the network adapts before the next zeros come.
Does nothing when: the time ends soon behind the ramp, or the pattern allows no way in between.
Cost: a training; the zeros are chosen anew some dozens of times.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from autosparse.levels import Dense, Pattern
from autosparse.recovery.recovery import Moment, Recovery
from autosparse.recovery.schedules import cubic, ramp, thinned
from autosparse.recovery.trained_layer import TrainedLayer


class GradualConfig(BaseModel):
    """When zeros come."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ramp_end: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Share of the training after which every zero is there; the rest is fine-tuning."""
    every: int = Field(default=8, ge=1)
    """Steps between two choices of zeros."""


def gradual_pattern(pattern: Pattern, part: float) -> Pattern:
    """The pattern that holds when a part (0 to 1) of the ramp is done."""
    if part >= 1.0 or isinstance(pattern, Dense):
        return pattern
    return thinned(pattern, cubic(part, final=1.0))


class Gradual(Recovery):
    """The cubic schedule of zeros, chosen by magnitude."""

    name = "gradual"
    summary = "from dense weights, zeros come by a cubic schedule, the smallest first"
    source = "TR1: Zhu & Gupta 2017, arXiv:1710.01878"
    family = "schedule"
    start = "dense"

    def __init__(self, config: GradualConfig | None = None) -> None:
        self.config = config or GradualConfig()

    def prepare(self, layers: Sequence[TrainedLayer]) -> None:
        """No zeros yet."""
        for layer in layers:
            layer.mask.fill_(True)
            layer.add_state("every_zero_is_there", torch.tensor(False))

    def after_step(
        self, layers: Sequence[TrainedLayer], moment: Moment, optimizer: torch.optim.Optimizer
    ) -> None:
        """Add the zeros that are due. A zero stays one: its weight gets no gradient."""
        last = self.at_target(moment.progress)
        if moment.step % self.config.every and not last:
            return
        part = ramp(moment.progress, 0.0, self.config.ramp_end)
        for layer in layers:
            if not layer.state("every_zero_is_there"):
                layer.remask(self.scores(layer), gradual_pattern(layer.pattern, part))
                layer.state("every_zero_is_there").fill_(last)

    def scores(self, layer: TrainedLayer) -> Tensor:
        """What is kept first, (output channels, K): the largest weights; what is zero stays so."""
        return (layer.raw * layer.mask).abs()

    def at_target(self, progress: float) -> bool:
        """Behind the ramp."""
        return progress >= self.config.ramp_end
