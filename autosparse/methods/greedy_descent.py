"""Idea: of all weights of a row, always move the one that lowers the objective most.

Source: Nutini et al. 2017, "Let's Make Block Coordinate Descent Converge Faster: Faster Greedy
Rules, Message-Passing, Active-Set Complexity, and Superlinear Convergence" (arXiv:1712.08859). The
objective is Net-Trim's: output error plus a price on magnitudes. All rows of a layer move at once,
each its own weight; once no zero moves any more, the exact fit on those left is the Newton step.
Helps when: many weights are zero at the end: they are hardly ever touched on the way.
Does nothing when: inputs are uncorrelated (then it is wanda).
Cost: a K x K Hessian per group, and as many steps as a row has weights, times some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from autosparse.levels import Pattern
from autosparse.methods.admm import shrunk
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.support_solver import SupportSolver, lowest_price

# What a step must promise, as a share of the objective at zero weights.
_WORTHWHILE = 1e-5
_HALVINGS = 10
# Steps at each price, in units of K: the next price begins where the last one ended.
_STEPS_EACH = 0.5


@dataclass
class Descent:
    """Rows that descend together. In units in which the Hessian has ones on its diagonal."""

    hessian: Tensor
    """(groups, K, K), scaled."""
    weight: Tensor
    """(groups, rows, K), where it stands."""
    slope: Tensor
    """(groups, rows, K): derivative of half the output error."""
    smallest: Tensor
    """(groups, rows, 1): what a step must promise."""
    steps: int = 0

    @classmethod
    def of(cls, problem: LayerProblem) -> Descent:
        """Begin at zero weights."""
        scale = torch.diagonal(problem.hessian, dim1=-2, dim2=-1).sqrt()
        hessian = problem.hessian / (scale[:, :, None] * scale[:, None, :])
        dense = problem.weight * scale[:, None]
        slope = -(dense @ hessian)
        smallest = _WORTHWHILE * -(dense * slope).sum(dim=-1, keepdim=True) / 2
        return cls(hessian, torch.zeros_like(dense), slope, smallest)

    def run(self, price: float, most: int, rule: Literal["greedy", "cyclic"] = "greedy") -> None:
        """Move one weight of each row after the other, until no move is worth it.

        Args:
            price: what a unit of magnitude costs.
            most: steps.
            rule: which weight moves: the one that lowers the objective most, or the next one.
        """
        columns = self.weight.shape[-1]
        groups = torch.arange(len(self.hessian))[:, None]
        for _ in range(most):
            moved = shrunk(self.weight - self.slope, price)
            change = moved - self.weight
            promised = -(
                self.slope * change
                + change.square() / 2
                + price * (moved.abs() - self.weight.abs())
            )
            best = promised.amax(dim=-1, keepdim=True)
            if not (best > self.smallest).any():
                break
            chosen = promised.argmax(dim=-1, keepdim=True)
            if rule == "cyclic":
                chosen = torch.full_like(chosen, self.steps % columns)
            by = change.gather(-1, chosen)
            self.weight.scatter_add_(-1, chosen, by)
            self.slope += by * self.hessian[groups, chosen[..., 0]]
            self.steps += 1


def descended_to(problem: LayerProblem, sparsity: float) -> Tensor:
    """The weights at the price where this share of them is zero, scaled by their inputs' norms.

    Args:
        problem: the layer.
        sparsity: share of zeros, in (0, 1).

    Returns:
        (groups, rows, K): its magnitude is a score.
    """
    descent = Descent.of(problem)
    most = max(int(_STEPS_EACH * problem.weight.shape[-1]), 1)

    def zeros_at(price: float) -> float:
        descent.run(price, most)
        return float((descent.weight == 0).double().mean())

    # from above: at a high price all are zero, and ever more of them move
    descent.run(lowest_price(sparsity, float(descent.slope.abs().max()), _HALVINGS, zeros_at), most)
    return descent.weight


class GreedyDescent(SupportSolver):
    """The support is what is largest where the descent ends."""

    name = "greedy_descent"
    summary = "Net-Trim's program by greedy coordinate descent, then an exact fit"
    source = "PR6: Nutini et al. 2017, arXiv:1712.08859"
    cost = "some K steps of rows x K"

    def support(self, problem: LayerProblem, pattern: Pattern) -> Tensor:
        """Descend, and keep what is largest."""
        return problem.kept(descended_to(problem, pattern.sparsity).abs(), pattern)
