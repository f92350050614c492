"""Idea: learn a threshold for each layer; what lies under it keeps some gradient, ever less.

Source: seed TR3, Kundu et al. 2023, "AutoSparse: Towards Automated Sparse Training of Deep Neural
Networks" (arXiv:2304.06941), there for networks trained from scratch. Here a recipe says how many
zeros a layer has in the end: the threshold follows a cubic schedule, and its factor is learned.
Helps when: it is open which weights are needed: pruned ones come back while they still learn.
Does nothing when: the training is too short for thresholds to move.
Cost: a training; one quantile a layer and step while zeros still come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from autosparse.levels import Dense, Level, Unstructured
from autosparse.recovery.recovery import Moment, Recovery
from autosparse.recovery.schedules import cosine_decay, cubic, ramp
from autosparse.recovery.trained_layer import TrainedLayer


class GradientAnnealingConfig(BaseModel):
    """When zeros come, and how much gradient they keep."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ramp_end: float = Field(default=0.6, gt=0.0, lt=1.0)
    """Share of the training after which the zeros are those of the level, and stay."""
    share: float = Field(default=0.75, ge=0.0, le=1.0)
    """The paper's alpha at the start: what is left of the gradient of a pruned weight."""


def soft_threshold(weight: Tensor, threshold: Tensor, share: float) -> Tensor:
    """Shrink weights by a threshold; those under it become 0 and keep a share of the gradient.

    Args:
        weight: any shape.
        threshold: broadcasts against it, not negative; gets a gradient, too.
        share: alpha, 0 to 1.
    """
    over = weight.abs() - threshold
    under = over.clamp(max=0.0)
    return weight.sign() * (over.relu() + share * (under - under.detach()))


class GradientAnnealing(Recovery):
    """Learned thresholds; gradients of pruned weights annealed."""

    name = "gradient_annealing"
    summary = "thresholds are learned, and the gradient of what lies under them is annealed to 0"
    source = "TR3: AutoSparse, Kundu et al. 2023, arXiv:2304.06941"
    family = "learned threshold"
    start = "dense"

    def __init__(self, config: GradientAnnealingConfig | None = None) -> None:
        self.config = config or GradientAnnealingConfig()

    def why_not(self, levels: Mapping[str, Level]) -> str:
        """A threshold makes zeros of single weights."""
        for name, level in levels.items():
            if not isinstance(level.pattern, Unstructured | Dense):
                return f"{name} is {level}, and thresholds make unstructured zeros only"
        return ""

    def prepare(self, layers: Sequence[TrainedLayer]) -> None:
        """No zeros yet; every threshold is its schedule's."""
        for layer in layers:
            layer.mask.fill_(True)
            layer.add_state("factor", torch.zeros(()), learned=True)
            layer.add_state("every_zero_is_there", torch.tensor(False))

    def weight(self, layer: TrainedLayer, progress: float) -> Tensor:
        """Soft-thresholded while zeros come, masked from then on."""
        if layer.state("every_zero_is_there"):
            return layer.raw * layer.mask
        part = ramp(progress, 0.0, self.config.ramp_end)
        share = self.config.share * cosine_decay(part)
        return soft_threshold(layer.raw, _threshold(layer, part), share)

    def after_step(
        self, layers: Sequence[TrainedLayer], moment: Moment, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keep the factors about 1, and fix the level's zeros at the end of the ramp.

        Left alone, every factor would fall, since no network gains by having zeros: what is learned
        is how they are shared out between layers.
        """
        if not self.at_target(moment.progress):
            _center([layer.state("factor") for layer in layers])
            return
        for layer in layers:
            if not layer.state("every_zero_is_there"):
                with torch.no_grad():
                    shrunk = soft_threshold(layer.raw, _threshold(layer, 1.0), 0.0)
                    # what a layer's own threshold made zero comes last, but by its size
                    layer.remask(shrunk.abs() + 1e-6 * layer.raw.abs())
                    layer.raw.copy_(torch.where(shrunk != 0, shrunk, layer.raw))
                layer.state("every_zero_is_there").fill_(True)

    def at_target(self, progress: float) -> bool:
        """Behind the ramp."""
        return progress >= self.config.ramp_end


def _center(factors: Sequence[Tensor]) -> None:
    """Let logarithms of factors sum to zero."""
    with torch.no_grad():
        mean = torch.stack(list(factors)).mean()
        for factor in factors:
            factor -= mean


def _threshold(layer: TrainedLayer, part: float) -> Tensor:
    """The size below which the schedule's share of weights lies, times the learned factor."""
    sparsity = cubic(part, layer.pattern.sparsity)
    sizes = layer.raw.detach().abs().flatten()
    place = min(max(round(sparsity * sizes.numel()), 1), sizes.numel())
    return sizes.kthvalue(place).values * (sparsity > 0) * layer.state("factor").exp()
