"""Idea: a weight also matters as much as the model's outputs move with it.

Source: Das et al. 2023, "Beyond Size: How Gradients Shape Pruning Decisions in Large Language
Models" (GBLM-Pruner, arXiv:2311.04902). The paper takes the gradients of the loss on labelled
text; here outputs are differentiated along random directions, which needs no labels. Both terms
are scaled to a mean of one, so that neither rules the other in any layer.
Helps when: outputs depend on few of a layer's outputs, which input norms cannot tell.
Does nothing when: gradients are equally large for all weights (then it is wanda).
Cost: a forward and a backward pass over a hundred calibration rows; the rest is sorting.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.errors import AutoSparseError
from autosparse.levels import Level, Unstructured
from autosparse.levels.masks import project
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.method import Family, Statistic
from autosparse.methods.round_to_nearest import at_precision
from autosparse.methods.wanda import compare_within_rows
from autosparse.model_graph import Layer


def gblm_scores(weight: Tensor, input_norms: Tensor, gradient_norms: Tensor) -> Tensor:
    """Score each weight by |weight| x (norm of its input + norm of its gradient).

    Args:
        weight: (output channels, K).
        input_norms: (groups, K); output channels are split evenly over the groups.
        gradient_norms: (output channels, K).

    Returns:
        (output channels, K); a higher score means keep.
    """
    inputs = input_norms.repeat_interleave(weight.shape[0] // input_norms.shape[0], dim=0)
    return weight.abs() * (_with_mean_one(inputs) + _with_mean_one(gradient_norms))


def _with_mean_one(values: Tensor) -> Tensor:
    return values / values.mean().clamp_min(torch.finfo(values.dtype).tiny)


class Gblm:
    """Any pattern, fp32 or int8; unstructured zeros are shared out evenly over the rows."""

    name = "gblm"
    summary = "zero the smallest |weight| x (input norm + gradient norm)"
    source = "PR2: Das et al. 2023, arXiv:2311.04902"
    needs: frozenset[Statistic] = frozenset({"input_norms", "gradient_norms"})
    family: Family = "score"
    cost = "none worth naming"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes every pattern with zeros that fits the layer."""
        return why_not_pruned(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Zero the lowest scores, then round where the level asks for integers."""
        if statistics.input_norms is None or statistics.gradient_norms is None:
            raise AutoSparseError(f"{layer.name}: its statistics hold no gradient norms")
        scores = gblm_scores(
            weight, torch.tensor(statistics.input_norms), torch.tensor(statistics.gradient_norms)
        )
        if isinstance(level.pattern, Unstructured):
            scores = compare_within_rows(scores)
        pruned = torch.where(project(scores, level.pattern), weight, 0.0)
        return at_precision(pruned, level.precision)
