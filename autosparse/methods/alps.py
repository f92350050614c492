"""Idea: choose the zeros and the weights together, by alternating directions, then fit exactly.

Source: Meng et al. 2024, "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large
Language Models" (arXiv:2406.07831), with an exact fit in place of conjugate gradients at the end.
Helps when: sparsity is high, where choosing zeros one column after the other, as SparseGPT does,
leaves much behind.
Does nothing when: inputs are uncorrelated (then it is wanda), or there are hardly any calibration
rows.
Cost: a K x K Hessian per group, its eigenvectors (cubic in K), and some hundred products with
them. About as long as SparseGPT for a small network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level, Pattern
from autosparse.levels.masks import project
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.admm import Copies, Splitting
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.kept_weights import settled
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.method import Family, Statistic
from autosparse.model_graph import Layer

# The penalty starts low, so that the zeros may still move, and grows until they no longer do.
_FIRST_PENALTY, _GROWTH, _STEPS = 0.03, 1.1, 60


def chosen_support(problem: LayerProblem, pattern: Pattern) -> Tensor:
    """Which weights to keep: (groups, rows, K) bool."""
    splitting = Splitting.of(problem, torch.float32)

    def kept(values: Tensor) -> Tensor:
        scores = values.square().reshape(-1, values.shape[-1])
        return project(scores, pattern).reshape(values.shape)

    def nearest(values: Tensor) -> Tensor:
        return torch.where(kept(values), values, 0.0)

    copies = Copies(nearest(splitting.weight), torch.zeros_like(splitting.weight))
    penalty = _FIRST_PENALTY
    for _ in range(_STEPS):
        copies.step(splitting, penalty, nearest)
        penalty *= _GROWTH
    return kept(copies.sparse)


class Alps:
    """Any pattern, fp32 or int8; the kept weights change."""

    name = "alps"
    summary = "choose zeros and weights together, then fit the weights exactly"
    source = "Meng et al. 2024, arXiv:2406.07831"
    needs: frozenset[Statistic] = frozenset({"hessian"})
    family: Family = "solver"
    cost = "eigenvectors, cubic in K, and a hundred products"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes every pattern with zeros that fits the layer."""
        return why_not_pruned(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Choose the support, then fit the weights on it.

        Raises:
            CandidateError: the Hessian cannot be made positive definite.
        """
        problem = LayerProblem.of(layer, weight, statistics)
        return settled(problem, chosen_support(problem, level.pattern), level.precision)
