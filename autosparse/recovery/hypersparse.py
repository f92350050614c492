"""Idea: a growing pull that only small weights feel: what is known moves into the largest ones.

Source: seed TR6, HyperSparse and ART: Glandorf et al. 2023, "HyperSparse Neural Networks: Shifting
Exploration to Exploitation through Adaptive Regularization" (arXiv:2308.07163). The pull is the
gradient of its regularizer: the slope of a hyperbolic tangent, aligned so that it falls off fastest
at the smallest weight that the pattern keeps. It grows exponentially, and acts behind the
optimizer's step, not through it, so that it means the same to every optimizer.
Helps when: sparsity is very high, and a cut by magnitude would break the network.
Does nothing when: the training is too short for weights to move.
Cost: a training; a selection in every step until the cut.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from autosparse.recovery.shrink_then_cut import ShrinkThenCut, ShrinkThenCutConfig, standing
from autosparse.recovery.trained_layer import TrainedLayer

# Where the slope of the hyperbolic tangent falls off fastest: its third derivative is 0.
_ALIGNED_AT = math.atanh(math.sqrt(1.0 / 3.0))


class HyperSparseConfig(ShrinkThenCutConfig):
    """How strong the pull is, and how it grows."""

    growth: float = Field(default=3.0, gt=0.0)
    """The pull at the cut is e to this power times that of the start."""


def pull(above: Tensor) -> Tensor:
    """How strongly each weight is pulled, from 1 for none to 0 for large ones.

    Args:
        above: size of a weight beside the border between kept and removed, where it is 1.
    """
    return 1.0 / torch.cosh((_ALIGNED_AT * above).clamp_max(20.0)).square()


def pulled(weight: Tensor, above: Tensor, amount: float) -> Tensor:
    """Weights moved towards 0, and not beyond, as far as each feels it.

    Args:
        weight: any shape.
        above: as of `pull`.
        amount: how far a weight that is nearly 0 is moved, in units of the border.
    """
    border = weight.abs() / above.clamp_min(torch.finfo(weight.dtype).tiny)
    return weight.sign() * (weight.abs() - amount * border * pull(above)).relu()


class HyperSparse(ShrinkThenCut):
    """An aligned, growing pull."""

    name = "hypersparse"
    summary = "a growing pull that small weights feel and large ones do not, then one cut"
    source = "TR6: HyperSparse, Glandorf et al. 2023, arXiv:2308.07163"

    def __init__(self, config: HyperSparseConfig | None = None) -> None:
        super().__init__(config or HyperSparseConfig())
        self.growth = (config or HyperSparseConfig()).growth

    def shrink(self, layer: TrainedLayer, rate: float, part: float) -> None:
        """Pull as strongly as is due."""
        due = self.growth * math.exp(self.growth * part) / math.expm1(self.growth)
        above = standing(layer.raw.abs(), layer.pattern)
        layer.raw.copy_(pulled(layer.raw, above, rate * due))
