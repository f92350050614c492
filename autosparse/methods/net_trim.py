"""Idea: of all weights that keep the outputs, take those with the smallest sum of magnitudes.

Source: Aghasi et al. 2017, "Net-Trim: Convex Pruning of Deep Neural Networks with Performance
Guarantee" (arXiv:1611.05162). The program is convex: its zeros come by themselves. How far outputs
may move is chosen so that as many zeros come as the level asks for; the others than unstructured
patterns take its weights as scores. What the sum of magnitudes took from the kept weights, the
exact fit gives back.
Helps when: few inputs suffice to give the outputs again, as at high sparsity.
Does nothing when: inputs are uncorrelated (then it is wanda).
Cost: a K x K Hessian per group, its eigenvectors (cubic in K), and some hundred products with
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level
from autosparse.levels.masks import project
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.admm import Copies, Splitting
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.kept_weights import settled
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.method import Family, Statistic
from autosparse.model_graph import Layer

_PENALTY = 0.3
_TOLERANCE, _MOST_STEPS = 1e-3, 200
# Halvings of the interval in which the price of a weight lies, and steps at each.
_HALVINGS, _STEPS_EACH = 12, 10


@dataclass(frozen=True)
class Trimmed:
    """A solution of the convex program."""

    weight: Tensor
    """(groups, rows, K), in the units of the layer's weights."""
    residual: float
    """How far the two copies were apart at the end, relative to the dense weight."""


def trimmed(problem: LayerProblem, price: float) -> Trimmed:
    """Minimize half the output error plus `price` x sum of |weight| x norm of its input.

    Args:
        problem: the layer.
        price: how much output error a unit of magnitude is worth.
    """
    splitting = Splitting.of(problem)
    copies = Copies(splitting.weight.clone(), torch.zeros_like(splitting.weight))
    residual = _descend(splitting, copies, price, _MOST_STEPS)
    return Trimmed(copies.sparse / splitting.scale, residual)


def trimmed_to(problem: LayerProblem, sparsity: float) -> Tensor:
    """The program's weights at the price where this share of them is zero, input norms included.

    Args:
        problem: the layer.
        sparsity: share of zeros, in (0, 1).

    Returns:
        (groups, rows, K): how much of every weight is left; its magnitude is a score.
    """
    splitting = Splitting.of(problem)
    copies = Copies(splitting.weight.clone(), torch.zeros_like(splitting.weight))
    low, high = 0.0, float(splitting.weight.abs().max())
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        _descend(splitting, copies, price, _STEPS_EACH)
        zeros = float((copies.sparse == 0).double().mean())
        low, high = (price, high) if zeros < sparsity else (low, price)
    # at the lower price no more weights are zero than asked for, so those left can be ranked
    _descend(splitting, copies, low, _STEPS_EACH)
    return copies.sparse


def _descend(splitting: Splitting, copies: Copies, price: float, most: int) -> float:
    residual = float("inf")
    for _ in range(most):
        residual = copies.step(
            splitting, _PENALTY, lambda values: _shrunk(values, price / _PENALTY)
        )
        if residual < _TOLERANCE:
            break
    return residual


def _shrunk(values: Tensor, by: float) -> Tensor:
    return values.sign() * (values.abs() - by).clamp_min(0)


class NetTrim:
    """Any pattern, fp32 or int8; the kept weights change."""

    name = "net_trim"
    summary = "smallest sum of magnitudes that keeps the outputs, then an exact fit"
    source = "PR4: Aghasi et al. 2017, arXiv:1611.05162"
    needs: frozenset[Statistic] = frozenset({"hessian"})
    family: Family = "solver"
    cost = "eigenvectors, cubic in K, and a hundred products"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes every pattern with zeros that fits the layer."""
        return why_not_pruned(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Solve the convex program, keep what it leaves largest, and fit.

        Raises:
            CandidateError: the Hessian cannot be made positive definite.
        """
        problem = LayerProblem.of(layer, weight, statistics)
        scores = trimmed_to(problem, level.sparsity).abs().reshape(weight.shape)
        kept = problem.split(project(scores, level.pattern))
        return settled(problem, kept, level.precision)
