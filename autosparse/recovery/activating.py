"""Idea: while zeros come, spare the weights that wake outputs which are dead on most rows.

Source: seed TR11, AP: Liu et al. 2022, "AP: Selective Activation for De-sparsifying Pruned Neural
Networks" (arXiv:2212.06145). It works beside a pruner: here beside the cubic schedule of `gradual`.
How often an output is not positive is averaged over the training, where nothing but a ReLU reads
it; in an output that hardly ever is, positive weights count for more than negative ones, since
inputs behind a ReLU are positive. What is negative now and then is as it should be.
Helps when: ReLU networks lose so many weights that outputs fall silent.
Does nothing when: activations are no ReLU, or nothing is dead.
Cost: a training; a mean for every output, and zeros are chosen anew some dozens of times.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from autosparse.recovery.gradual import Gradual, GradualConfig
from autosparse.recovery.trained_layer import TrainedLayer


class ActivatingConfig(GradualConfig):
    """How strongly dead outputs are woken, and how deadness is averaged."""

    pull: float = Field(default=0.5, ge=0.0, lt=1.0)
    """How much more a positive weight of an output that is always dead counts, and a negative one
    less. 0 is `gradual`."""
    dead_from: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Share of rows and places without a positive value from which on an output counts as dying."""
    smoothing: float = Field(default=0.9, ge=0.0, lt=1.0)
    """What is left of the mean deadness after a step."""


def waking_scores(weight: Tensor, dead: Tensor, pull: float, dead_from: float) -> Tensor:
    """Sizes of weights, those that wake a dying output counting for more.

    Args:
        weight: (output channels, K).
        dead: (output channels,): on which share of rows and places each is not positive.
        pull: how much more a positive weight counts where an output is always dead.
        dead_from: share up to which it counts as any other.
    """
    dying = ((dead - dead_from) / (1.0 - dead_from)).clamp(0.0, 1.0)
    return weight.abs() * (1.0 + pull * dying[:, None] * weight.sign())


class Activating(Gradual):
    """The cubic schedule, with scores that wake dead outputs."""

    name = "activating"
    summary = "as gradual, but weights that wake outputs which are mostly dead are spared"
    source = "TR11: AP, Liu et al. 2022, arXiv:2212.06145"

    def __init__(self, config: ActivatingConfig | None = None) -> None:
        super().__init__(config)
        self.waking = config or ActivatingConfig()

    def prepare(self, layers: Sequence[TrainedLayer]) -> None:
        """No zeros yet, and nothing known of deadness."""
        super().prepare(layers)
        for layer in layers:
            layer.add_state("dead", torch.zeros(len(layer.raw)))

    def watch(self, layer: TrainedLayer, values: Tensor) -> None:
        """Add to the mean deadness, where values below zero are lost."""
        if not layer.is_rectified:
            return
        axis = 1 if layer.layer.operator == "Conv" else values.ndim - 1
        others = [other for other in range(values.ndim) if other != axis]
        share = (values.detach() <= 0).float().mean(dim=others)
        layer.state("dead").lerp_(share, 1.0 - self.waking.smoothing)

    def scores(self, layer: TrainedLayer) -> Tensor:
        """Sizes, waking weights first."""
        config = self.waking
        return waking_scores(
            layer.raw * layer.mask, layer.state("dead"), config.pull, config.dead_from
        )
