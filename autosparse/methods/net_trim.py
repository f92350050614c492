"""Idea: of all weights that keep the outputs, take those with the smallest sum of magnitudes.

Source: Aghasi et al. 2017, "Net-Trim: Convex Pruning of Deep Neural Networks with Performance
Guarantee" (arXiv:1611.05162). The program is convex: its zeros come by themselves. How far outputs
may move is chosen so that as many zeros come as the level asks for; the others than unstructured
patterns take its weights as scores. What the sum of magnitudes took from the kept weights, the
exact fit gives back.
Helps when: few inputs suffice to give the outputs again, as at high sparsity.
Does nothing when: inputs are uncorrelated (then it is wanda).
Cost: a K x K Hessian per group, its eigenvectors (cubic in K), and two or three hundred products
with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.levels import Pattern
from autosparse.methods.admm import Copies, Splitting, shrunk
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.support_solver import SupportSolver, lowest_price

_PENALTY = 0.3
_TOLERANCE, _MOST_STEPS = 1e-3, 200
# Halvings of the interval in which the price of a weight lies, and steps at each; at the price
# that is found, the program is solved to the tolerance.
_HALVINGS, _STEPS_EACH = 12, 10


@dataclass(frozen=True)
class Trimmed:
    """A solution of the convex program; tensors are (groups, rows, K)."""

    weight: Tensor
    """In the units of the layer's weights."""
    scores: Tensor
    """What is kept first: sizes before the last shrinkage, which rank what became zero, too."""
    price: float
    """How much output error a unit of magnitude, times the norm of its input, is worth."""
    residual: float
    """How far the two copies were apart at the end, relative to the dense weight."""


def trimmed(problem: LayerProblem, sparsity: float) -> Trimmed:
    """Minimize half the output error plus price x sum of |weight| x norm of its input.

    Args:
        problem: the layer.
        sparsity: share of zeros, in (0, 1), which the price is chosen for.
    """
    splitting = Splitting.of(problem)
    copies = Copies(splitting.weight.clone(), torch.zeros_like(splitting.weight))

    def zeros_at(price: float) -> float:
        _descend(splitting, copies, price, _STEPS_EACH)
        return float((copies.sparse == 0).double().mean())

    price = lowest_price(sparsity, float(splitting.weight.abs().max()), _HALVINGS, zeros_at)
    residual = _descend(splitting, copies, price, _MOST_STEPS)
    scores = (copies.sparse + copies.dual).abs()
    return Trimmed(copies.sparse / splitting.scale, scores, price, residual)


def _descend(splitting: Splitting, copies: Copies, price: float, most: int) -> float:
    residual = float("inf")
    for _ in range(most):
        residual = copies.step(splitting, _PENALTY, lambda values: shrunk(values, price / _PENALTY))
        if residual < _TOLERANCE:
            break
    return residual


class NetTrim(SupportSolver):
    """The support is what the convex program leaves largest."""

    name = "net_trim"
    summary = "smallest sum of magnitudes that keeps the outputs, then an exact fit"
    source = "PR4: Aghasi et al. 2017, arXiv:1611.05162"
    cost = "eigenvectors, cubic in K, and some hundred products"

    def support(self, problem: LayerProblem, pattern: Pattern) -> Tensor:
        """Solve the program, and keep what it leaves largest."""
        return problem.kept(trimmed(problem, pattern.sparsity).scores, pattern)
