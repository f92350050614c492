"""Symmetric integer grids: which steps a weight is put on, and the nearest point of each weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.levels.level import Precision

LARGEST_INT8 = 127


@dataclass(frozen=True)
class IntegerGrid:
    """How fine a precision's grid is, and how many weights share a step."""

    largest: int
    """Largest integer; the smallest is its negative."""
    block: int | None
    """Consecutive weights along K that share a step; None where a whole channel does."""


# A step per channel would cost 4 bits most of their accuracy: one outlier coarsens a whole row.
# 32 is the finest block that kernels commonly have.
GRIDS = {
    Precision.INT8: IntegerGrid(LARGEST_INT8, block=None),
    Precision.INT4: IntegerGrid(7, block=32),
}


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


def grid_scales(weight: Tensor, grid: IntegerGrid) -> Tensor:
    """Steps of a grid that reaches the largest weight of every channel, or of every block.

    Args:
        weight: (output channels, K); K is a multiple of the grid's block.
        grid: which grid.

    Returns:
        (output channels,) or (output channels, blocks) float32.
    """
    if grid.block is None:
        return channel_scales(weight, grid.largest)
    blocks = weight.reshape(-1, grid.block)
    return channel_scales(blocks, grid.largest).reshape(len(weight), -1)


def steps_of(scales: Tensor, columns: int) -> Tensor:
    """Step of every weight, (output channels, K), from steps per channel or per block."""
    if scales.dim() == 1:
        return scales[:, None].expand(-1, columns)
    return scales.repeat_interleave(columns // scales.shape[1], dim=1)


def round_to_grid(weight: Tensor, scales: Tensor, largest: int = LARGEST_INT8) -> Tensor:
    """Nearest integer of every weight: (output channels, K) int8; zeros stay zeros."""
    steps = steps_of(scales, weight.shape[1])
    return (weight / steps).round().clamp(-largest, largest).to(torch.int8)
