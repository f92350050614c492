"""Idea: N:M in both directions of a training: another mask for the products with gradients.

Source: seed NM6, BDWP: Zhang et al. 2023, "Efficient N:M Sparse DNN Training Using Algorithm,
Architecture, and Dataflow Co-Design" (arXiv:2309.13015). Forwards, groups run along the inputs, as
in the level; backwards, along the outputs, so that both products could run on N:M hardware.
Helps when: the question is what a training on such hardware would come to.
Does nothing when: the training itself runs on dense kernels, as here: it is not faster.
Cost: a training; two masks are chosen in every step.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from autosparse.levels import NM, Dense, Level
from autosparse.levels.masks import project
from autosparse.recovery.sr_ste import SrSte
from autosparse.recovery.trained_layer import TrainedLayer


def backward_mask(sizes: Tensor, pattern: NM) -> Tensor:
    """N:M along the outputs.

    Args:
        sizes: (rows, K), not negative; rows are a multiple of M.
        pattern: N and M.

    Returns:
        (rows, K) bool: in every column, N of M consecutive rows.
    """
    return project(sizes.t().contiguous(), pattern).t()


class Bdwp(SrSte):
    """SR-STE forwards, a mask along the outputs backwards."""

    name = "bdwp"
    summary = "as sr_ste, and gradients are multiplied with weights that are N:M along outputs"
    source = "NM6: BDWP, Zhang et al. 2023, arXiv:2309.13015"
    cost = "a training; two masks are chosen in every step"
    arithmetic = "fp32"  # bf16 multiplies with copies, which nothing can stand in for

    def why_not(self, levels: Mapping[str, Level]) -> str:
        """It is a way to train N:M."""
        for name, level in levels.items():
            if not isinstance(level.pattern, NM | Dense):
                return f"{name} is {level}, and bdwp trains N:M zeros only"
        return ""

    def backward_weight(self, layer: TrainedLayer) -> Tensor | None:
        """The largest weights along the outputs; None where these do not divide into groups."""
        pattern = layer.pattern
        if not isinstance(pattern, NM) or len(layer.raw) % pattern.group:
            return None
        raw = layer.raw.detach()
        return (raw * backward_mask(raw.abs(), pattern)).contiguous()
