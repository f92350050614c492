"""Idea: zeros at random places, the other weights trained: what any choice of zeros must beat.

Source: seed AN3 (control), with TR22: Liu et al. 2022, "The Unreasonable Effectiveness of Random
Pruning" (arXiv:2202.02643).
Helps when: a benchmark asks how much of a result is the training's and not the method's.
Does nothing when: a better model is wanted.
Cost: a training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autosparse.recovery.recovery import Recovery
from autosparse.recovery.trained_layer import TrainedLayer

_SEED = 20220


class RandomZeros(Recovery):
    """The control: zeros by chance, the same at every call."""

    name = "random_zeros"
    summary = "control: zeros at random places, the other weights trained"
    source = "AN3, TR22: Liu et al. 2022, arXiv:2202.02643"
    family = "control"
    start = "dense"

    def prepare(self, layers: Sequence[TrainedLayer]) -> None:
        """Draw the zeros."""
        draw = torch.Generator().manual_seed(_SEED)
        for layer in layers:
            layer.remask(torch.rand(layer.raw.shape, generator=draw))
