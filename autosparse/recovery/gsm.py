"""Idea: only the weights that matter to the loss just now are learned; all others fade away.

Source: seed TR5, GSM: Ding et al. 2019, "Global Sparse Momentum SGD for Pruning Very Deep Neural
Networks" (arXiv:1909.12778). What a weight matters is |weight x gradient|, to first order what the
loss would change without it. There the choice goes over all layers together, and by each batch
alone; here a recipe says how many weights a layer keeps, since levels were chosen for their
latency, and the choice goes by the mean over some steps. The decay acts behind the optimizer's
step, so that it means the same to every optimizer.
Helps when: large weights are not the important ones: size plays no part until the cut.
Does nothing when: batches are so small that the choice is noise.
Cost: a training; a selection in every step until the cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from autosparse.recovery.recovery import Moment
from autosparse.recovery.shrink_then_cut import ShrinkThenCut, ShrinkThenCutConfig, softly_shrunk
from autosparse.recovery.trained_layer import TrainedLayer


class GsmConfig(ShrinkThenCutConfig):
    """How fast passive weights fade, and how importance is averaged."""

    smoothing: float = Field(default=0.9, ge=0.0, lt=1.0)
    """What is left of the mean importance after a step."""


def importance(weight: Tensor, gradient: Tensor) -> Tensor:
    """|weight x gradient|: to first order, what the loss changes by without the weight."""
    return (weight * gradient).abs()


class Gsm(ShrinkThenCut):
    """Gradients for the weights that matter; a decay for all others."""

    name = "gsm"
    summary = "only weights with the largest |weight x gradient| learn; the others fade away"
    source = "TR5: GSM, Ding et al. 2019, arXiv:1909.12778"

    def __init__(self, config: GsmConfig | None = None) -> None:
        super().__init__(config)
        self.smoothing = (config or GsmConfig()).smoothing

    def states(self, layer: TrainedLayer) -> Mapping[str, Tensor]:
        """The mean importance."""
        return {"importance": torch.zeros_like(layer.raw)}

    def after_backward(self, layers: Sequence[TrainedLayer], moment: Moment) -> None:
        """Choose who learns, and take the gradients of the others away."""
        for layer in layers:
            gradient = layer.raw.grad
            if gradient is None or layer.state("is_cut"):
                continue
            mean = layer.state("importance")
            mean.lerp_(importance(layer.raw.detach(), gradient), 1.0 - self.smoothing)
            layer.remask(mean)
            gradient.mul_(layer.mask)

    def shrink(self, layer: TrainedLayer, rate: float, part: float) -> None:
        """What does not learn fades."""
        layer.raw.copy_(softly_shrunk(layer.raw, layer.mask, rate))
