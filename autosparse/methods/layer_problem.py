"""The problem that the solvers share: keep a layer's outputs, with few weights.

The squared error of a layer's outputs on its calibration rows is a quadratic of its weights, whose
matrix is the Hessian of its inputs: the rows themselves are not needed. What the data leave open
is settled by damping, which holds weights near those that came.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.errors import AutoSparseError, CandidateError
from autosparse.levels import Pattern
from autosparse.levels.masks import project
from autosparse.model_graph import Layer

DAMPING = 0.01
# A group whose inputs are (almost) always zero is damped by this share of the average group.
_SMALLEST_ENERGY = 1e-6
_LARGEST_DAMPING = 1.0


@dataclass(frozen=True)
class LayerProblem:
    """Minimize `error` over the weights that a pattern allows.

    Everything is float64 and split into groups of a convolution.
    """

    weight: Tensor
    """(groups, rows, K): the dense weight."""
    hessian: Tensor
    """(groups, K, K): damped, positive definite."""

    @classmethod
    def of(cls, layer: Layer, weight: Tensor, statistics: LayerStatistics) -> LayerProblem:
        """From what `Method.compress` is given.

        Raises:
            CandidateError: the Hessian cannot be made positive definite, with the layer's name.
        """
        hessian = definite_hessian(layer, statistics)
        split = weight.to(torch.float64, copy=True).reshape(len(hessian), -1, weight.shape[1])
        return cls(split, hessian)

    def split(self, matrix: Tensor) -> Tensor:
        """(output channels, K) -> (groups, rows, K)."""
        return matrix.reshape(self.weight.shape)

    def kept(self, scores: Tensor, pattern: Pattern) -> Tensor:
        """What scores highest, as far as the pattern allows: (groups, rows, K) bool.

        Args:
            scores: (groups, rows, K).
            pattern: the shape of the zeros.
        """
        return self.split(project(scores.reshape(-1, scores.shape[-1]), pattern))

    def errors(self, weight: Tensor) -> Tensor:
        """Squared output error of every row, (groups, rows)."""
        change = weight - self.weight
        return ((change @ self.hessian) * change).sum(dim=-1)

    def error(self, weight: Tensor) -> float:
        """Squared output error of the layer, relative to its squared output."""
        whole = self.errors(torch.zeros_like(weight)).sum()
        return float(self.errors(weight).sum() / whole.clamp_min(torch.finfo(whole.dtype).tiny))


def definite_hessian(layer: Layer, statistics: LayerStatistics) -> Tensor:
    """`positive_definite` of a layer's Hessian.

    Raises:
        CandidateError: it cannot be made so, with the layer's name.
    """
    if statistics.hessian is None:
        raise AutoSparseError(f"{layer.name}: its statistics hold no Hessian")
    try:
        return positive_definite(torch.tensor(statistics.hessian))
    except CandidateError as error:
        raise CandidateError(f"{layer.name}: {error.message}", hint=error.hint) from error


def positive_definite(hessian: Tensor, damping: float = DAMPING) -> Tensor:
    """Damp a Hessian until every system with it has a solution.

    Damping also settles what the data leave open: an input that was always zero, fewer rows than
    columns. Where it does not suffice it is raised, tenfold at a time.

    Args:
        hessian: (groups, K, K), symmetric; not changed.
        damping: what is added to the diagonal, as a share of a group's mean diagonal.

    Returns:
        (groups, K, K) float64.

    Raises:
        CandidateError: even damping by the whole mean diagonal gives no positive definite matrix.
    """
    while True:
        damped = hessian.to(torch.float64, copy=True)
        diagonal = torch.diagonal(damped, dim1=-2, dim2=-1)
        energy = diagonal.mean(dim=-1, keepdim=True)
        floor = _SMALLEST_ENERGY * (float(energy.mean()) or 1.0)
        diagonal += damping * energy.clamp_min(floor)
        _, failed = torch.linalg.cholesky_ex(damped)
        if not failed.any():
            return damped
        if damping >= _LARGEST_DAMPING:
            raise CandidateError(
                "the Hessian of its inputs is not positive definite, even with its mean diagonal "
                "added",
                hint="give more calibration data, or choose a method that needs no Hessian",
            )
        damping = max(10 * damping, DAMPING)


def upper_factor_of_inverse(hessian: Tensor) -> Tensor:
    """Upper triangular U with U^T U = inverse of the Hessian.

    Args:
        hessian: (..., K, K), positive definite.

    Returns:
        (..., K, K), of the same type.
    """
    # H = M M^T with M upper triangular is the Cholesky factor seen from the last column, and
    # U = M^-1: one triangular inverse in place of a full one and a second factorization
    factor = torch.linalg.cholesky(hessian.flip(-2, -1)).flip(-2, -1)
    identity = torch.eye(hessian.shape[-1], dtype=hessian.dtype).expand_as(hessian)
    upper: Tensor = torch.linalg.solve_triangular(factor, identity, upper=True)
    return upper
