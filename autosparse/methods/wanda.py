"""Idea: a weight matters as much as what it multiplies: score it by |weight| x input norm.

Source: Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models"
(arXiv:2306.11695).
Helps when: a few inputs are far larger than the others, as in transformers; for N:M and blocks.
Does nothing when: all inputs of a layer have the same norm (then it is magnitude, row by row). In
convolutional networks at unstructured patterns it is often no better than magnitude.
Cost: one pass over the calibration data for the norms; the rest is sorting.
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
from autosparse.model_graph import Layer


def wanda_scores(weight: Tensor, input_norms: Tensor) -> Tensor:
    """Score each weight by |weight| x L2 norm of its input.

    Args:
        weight: (output channels, K).
        input_norms: (groups, K); output channels are split evenly over the groups.

    Returns:
        (output channels, K); a higher score means keep.
    """
    rows_per_group = weight.shape[0] // input_norms.shape[0]
    return weight.abs() * input_norms.repeat_interleave(rows_per_group, dim=0)


def compare_within_rows(scores: Tensor) -> Tensor:
    """Turn scores into places that compare weights within their own row, as the paper does.

    A weight that is the n-th best of its row comes before every weight that is n+1-th best of
    another. So every row keeps the same number of weights, give or take one, and that one goes
    by score: the layer as a whole has exactly the zeros that were asked for.

    Args:
        scores: (rows, K).

    Returns:
        (rows, K) integers; a higher one means keep. Ties are kept in column order.
    """
    place_in_row = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    by_score = scores.flatten().argsort(descending=True, stable=True)
    best_first = by_score[place_in_row.flatten()[by_score].argsort(stable=True)]
    return -best_first.argsort().reshape(scores.shape)


class Wanda:
    """Any pattern, fp32 or int8; unstructured zeros are shared out evenly over the rows."""

    name = "wanda"
    summary = "zero the weights with the smallest |weight| x input norm"
    source = "Sun et al. 2023, arXiv:2306.11695"
    needs: frozenset[Statistic] = frozenset({"input_norms"})
    family: Family = "score"
    cost = "none worth naming"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes every pattern with zeros that fits the layer."""
        return why_not_pruned(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Zero the lowest scores, then round where the level asks for integers."""
        if statistics.input_norms is None:
            raise AutoSparseError(f"{layer.name}: its statistics hold no input norms")
        scores = wanda_scores(weight, torch.tensor(statistics.input_norms))
        if isinstance(level.pattern, Unstructured):
            scores = compare_within_rows(scores)
        pruned = torch.where(project(scores, level.pattern), weight, 0.0)
        return at_precision(pruned, level.precision)
