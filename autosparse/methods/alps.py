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

from autosparse.levels import Pattern
from autosparse.methods.admm import Copies, Splitting
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.support_solver import SupportSolver

# The penalty starts low, so that the zeros may still move, and grows until they no longer do.
_FIRST_PENALTY, _GROWTH, _STEPS = 0.03, 1.1, 60


def chosen_support(problem: LayerProblem, pattern: Pattern) -> Tensor:
    """Which weights to keep: (groups, rows, K) bool."""
    splitting = Splitting.of(problem, torch.float32)

    def nearest(values: Tensor) -> Tensor:
        return torch.where(problem.kept(values.square(), pattern), values, 0.0)

    copies = Copies(nearest(splitting.weight), torch.zeros_like(splitting.weight))
    penalty = _FIRST_PENALTY
    for _ in range(_STEPS):
        copies.step(splitting, penalty, nearest)
        penalty *= _GROWTH
    return problem.kept(copies.sparse.square(), pattern)


class Alps(SupportSolver):
    """The support is where the zeros of alternating directions come to rest."""

    name = "alps"
    summary = "choose zeros and weights together, then fit the weights exactly"
    source = "Meng et al. 2024, arXiv:2406.07831"
    cost = "eigenvectors, cubic in K, and a hundred products"

    def support(self, problem: LayerProblem, pattern: Pattern) -> Tensor:
        """Alternate until the zeros no longer move."""
        return chosen_support(problem, pattern)
