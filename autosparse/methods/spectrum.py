"""Idea: a weight matrix acts through its singular values, so keep those, not single weights.

Source: Yao et al. 2021, "Neural Network Pruning as Spectrum Preserving Process". As in matrix
sparsification, zeros are chosen by size; the kept weights then move to where the error matrix has
the smallest spectrum (its fourth Schatten norm, whose largest terms are the largest singular
values).
Helps when: there are no calibration data at all.
Does nothing when: the removed weights are as unordered as noise: then no kept weight can make up
for them.
Cost: some products of the weight matrix with itself; no data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level
from autosparse.levels.masks import project
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.magnitude import magnitude_scores
from autosparse.methods.method import Family, Statistic
from autosparse.methods.round_to_nearest import at_precision
from autosparse.model_graph import Layer

_STEPS = 20


def spectral_error(weight: Tensor, compressed: Tensor) -> float:
    """Largest singular value of the difference, relative to the weight's: a score without data.

    Args:
        weight: (rows, K), as it came.
        compressed: (rows, K).
    """
    largest = torch.linalg.matrix_norm(weight.double(), ord=2)
    error = torch.linalg.matrix_norm((weight - compressed).double(), ord=2)
    return float(error / largest.clamp_min(torch.finfo(largest.dtype).tiny))


def preserved(weight: Tensor, kept: Tensor, steps: int = _STEPS) -> Tensor:
    """Move the kept weights to where the error's spectrum is smallest.

    The sum of the fourth powers of the error's singular values is convex in the kept weights.
    Along a direction it is a polynomial of degree four, so that every step goes to the exact
    minimum of its line, and none makes it larger.

    Args:
        weight: (rows, K).
        kept: (rows, K) bool.
        steps: how often to step.

    Returns:
        (rows, K) float64, zero where nothing is kept.
    """
    error = weight.double() * ~kept
    previous, direction = torch.zeros_like(error), torch.zeros_like(error)
    for _ in range(steps):
        slope = (error @ error.T @ error) * kept
        size = slope.square().sum()
        if size <= torch.finfo(size.dtype).tiny:
            break
        # conjugate directions (Polak and Ribiere), begun anew where they would lead upwards
        turn = (slope * (slope - previous)).sum() / previous.square().sum().clamp_min(size * 1e-9)
        direction = slope + turn.clamp_min(0) * direction
        previous = slope
        error = error - _best_step(error, direction) * direction
    return (weight.double() - error) * kept


def _best_step(error: Tensor, direction: Tensor) -> float:
    """The step t with the smallest fourth Schatten norm of error - t x direction."""
    base = error @ error.T
    linear = -(error @ direction.T + direction @ error.T)
    square = direction @ direction.T
    # derivative of || base + t linear + t^2 square ||^2, lowest power first
    coefficients = torch.stack([
        2 * (base * linear).sum(),
        2 * linear.square().sum() + 4 * (base * square).sum(),
        6 * (linear * square).sum(),
        4 * square.square().sum(),
    ])  # fmt: skip
    return _root(coefficients)


def _root(cubic: Tensor) -> float:
    """The one real root of an increasing cubic, its coefficients given lowest power first."""
    scaled = cubic[:3] / cubic[3]
    companion = torch.diag(torch.ones(2, dtype=cubic.dtype), -1)
    companion[:, 2] = -scaled
    roots = torch.linalg.eigvals(companion)
    return float(roots.real[roots.imag.abs().argmin()])


class Spectrum:
    """Any pattern, fp32 or int8; the kept weights change."""

    name = "spectrum"
    summary = "zero the smallest weights and let the others keep the singular values"
    source = "PR5: Yao et al. 2021, Neural Network Pruning as Spectrum Preserving Process"
    needs: frozenset[Statistic] = frozenset()
    family: Family = "solver"
    cost = "some products of the weight with itself"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes every pattern with zeros that fits the layer."""
        return why_not_pruned(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Zero the smallest weights, move the others, then round where integers are asked for."""
        kept = project(magnitude_scores(weight), level.pattern)
        groups = zip(weight.chunk(layer.groups), kept.chunk(layer.groups), strict=True)
        moved = torch.cat([preserved(part, mask) for part, mask in groups])
        return at_precision(moved.float(), level.precision)
