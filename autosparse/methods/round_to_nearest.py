"""Idea: put every weight on the nearest point of a symmetric per-channel integer grid.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (arXiv:1712.05877).
Helps when: weights of a channel have no far outliers; the INT8 opponent of everything else.
Does nothing when: the precision is a float format.
Cost: none worth naming; no data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Dense, Level, Precision
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.method import Statistic
from autosparse.model_graph import Layer

LARGEST_INT8 = 127


def channel_scales(weight: Tensor, largest: int = LARGEST_INT8) -> Tensor:
    """Step of a symmetric grid that reaches the largest weight of every channel.

    Args:
        weight: (output channels, K).
        largest: largest integer of the grid.

    Returns:
        (output channels,) float32; 1 for a channel of zeros.
    """
    scales = weight.abs().amax(dim=1) / largest
    return torch.where(scales > torch.finfo(torch.float32).tiny, scales, torch.ones_like(scales))


def round_to_grid(weight: Tensor, scales: Tensor, largest: int = LARGEST_INT8) -> Tensor:
    """Nearest integer of every weight: (output channels, K) int8; zeros stay zeros."""
    return (weight / scales[:, None]).round().clamp(-largest, largest).to(torch.int8)


def at_precision(weight: Tensor, precision: Precision) -> CompressedWeight:
    """The last step of every method: put a masked weight into the level's number format."""
    if precision is Precision.FP32:
        return CompressedWeight(values=weight.numpy())
    scales = channel_scales(weight)
    return CompressedWeight.quantized(round_to_grid(weight, scales).numpy(), scales.numpy())


class RoundToNearest:
    """`dense:int8` and the like."""

    name = "round_to_nearest"
    summary = "nearest point of a per-channel integer grid"
    source = "Jacob et al. 2018, arXiv:1712.05877"
    needs: frozenset[Statistic] = frozenset()

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes dense integer levels only."""
        if not isinstance(level.pattern, Dense):
            return f"{layer.name}: round_to_nearest makes no zeros, {level} needs a pruning method"
        if level.precision is not Precision.INT8:
            return f"{layer.name}: round_to_nearest does not make {level.precision.value}"
        return ""

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Round every weight to the grid of its channel."""
        return at_precision(weight, level.precision)
