"""Idea: zeros that are N:M in both directions, so that a training's backward pass is sparse too.

Source: masks as in Hubara et al. 2021, "Accelerated Sparse Neural Training: A Provable and
Efficient Method to Find N:M Transposable Masks" (arXiv:2102.08124), found by the iterations of
Tang et al. 2024, "Accelerating Sinkhorn Algorithm with Sparse Newton Iterations" (NM7).
Helps when: the layer is trained afterwards where products with the transposed weight are N:M.
Does nothing when: only the forward pass counts: there plain N:M keeps more.
Cost: a K x K Hessian per group, and some small systems for every M x M block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autosparse.errors import AutoSparseError
from autosparse.levels import NM, Level, Pattern
from autosparse.levels.transposable import project_transposable
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.support_solver import SupportSolver
from autosparse.model_graph import Layer


class Transposable(SupportSolver):
    """N:M zeros only."""

    name = "transposable"
    summary = "zeros that are N:M along inputs and outputs, then an exact fit"
    source = "NM7: Hubara et al. 2021, arXiv:2102.08124"
    cost = "small systems for every M x M block, and an exact fit"

    def why_not(self, layer: Layer, level: Level) -> str:
        """Output channels must split into groups of M as inputs do."""
        reason = super().why_not(layer, level)
        if reason:
            return reason
        if not isinstance(level.pattern, NM):
            return f"{layer.name}: transposable makes N:M zeros only, not {level}"
        rows = layer.output_channels // layer.groups
        if rows % level.pattern.group:
            return f"{layer.name}: {rows} outputs are no multiple of {level.pattern.group}"
        return ""

    def support(self, problem: LayerProblem, pattern: Pattern) -> Tensor:
        """Keep the weights that add most to the output.

        Raises:
            AutoSparseError: the pattern is none of those that `why_not` lets through.
        """
        if not isinstance(pattern, NM):
            raise AutoSparseError(f"transposable makes N:M zeros only, not {pattern}")
        norms = torch.diagonal(problem.hessian, dim1=-2, dim2=-1).sqrt()[:, None]
        scores = problem.weight.abs() * norms
        return problem.split(project_transposable(scores.flatten(0, 1), pattern))
