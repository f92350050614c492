"""Alternating directions: outputs are kept by one copy of the weights, the zeros by another.

Source: Boyd et al. 2011, "Distributed Optimization and Statistical Learning via the Alternating
Direction Method of Multipliers".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.methods.layer_problem import LayerProblem


@dataclass(frozen=True)
class Splitting:
    """A Hessian in a form in which every penalty's system is solved by two products.

    Columns are scaled so that the Hessian has ones on its diagonal: one penalty then fits all of
    them, whatever the size of their inputs.
    """

    scale: Tensor
    """(groups, 1, K): what a weight is multiplied with."""
    values: Tensor
    """(groups, 1, K): eigenvalues of the scaled Hessian."""
    vectors: Tensor
    """(groups, K, K): its eigenvectors, in columns."""
    weight: Tensor
    """(groups, rows, K): the scaled dense weight."""

    @classmethod
    def of(cls, problem: LayerProblem, dtype: torch.dtype = torch.float64) -> Splitting:
        """Scale and decompose, once for all penalties.

        Args:
            problem: the layer.
            dtype: of the steps; float32 is enough where only a support is asked for.
        """
        scale = torch.diagonal(problem.hessian, dim1=-2, dim2=-1).sqrt()
        scaled = problem.hessian / (scale[:, :, None] * scale[:, None, :])
        values, vectors = torch.linalg.eigh(scaled)
        return cls(
            scale=scale[:, None, :].to(dtype),
            values=values[:, None, :].to(dtype),
            vectors=vectors.to(dtype),
            weight=(problem.weight * scale[:, None, :]).to(dtype),
        )

    def nearest(self, centre: Tensor, penalty: float) -> Tensor:
        """Minimize half the output error plus penalty / 2 x squared distance from `centre`."""
        change = (centre - self.weight) @ self.vectors
        kept = change * (penalty / (self.values + penalty))
        return self.weight + kept @ self.vectors.mT


@dataclass
class Copies:
    """Where alternating directions stand; all are (groups, rows, K), scaled."""

    sparse: Tensor
    """The copy that has the zeros."""
    dual: Tensor
    """Multipliers, in units of the weights."""

    def step(
        self, splitting: Splitting, penalty: float, proximal: Callable[[Tensor], Tensor]
    ) -> float:
        """Move both copies towards each other once.

        Args:
            splitting: the layer.
            penalty: how much the copies' distance weighs.
            proximal: the nearest point that has the zeros.

        Returns:
            How far the copies are apart, relative to the dense weight.
        """
        smooth = splitting.nearest(self.sparse - self.dual, penalty)
        self.sparse = proximal(smooth + self.dual)
        self.dual += smooth - self.sparse
        norm = splitting.weight.norm().clamp_min(torch.finfo(smooth.dtype).tiny)
        return float((smooth - self.sparse).norm() / norm)


def shrunk(values: Tensor, by: float) -> Tensor:
    """Every value moved towards 0 by as much, and not beyond: the proximal step of magnitudes."""
    return values.sign() * (values.abs() - by).clamp_min(0)
