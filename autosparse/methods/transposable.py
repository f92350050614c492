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

from autosparse.calibration import LayerStatistics
from autosparse.levels import NM, Level
from autosparse.levels.transposable import project_transposable
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.kept_weights import settled
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.method import Family, Statistic
from autosparse.model_graph import Layer


class Transposable:
    """N:M zeros, fp32 or int8; the kept weights change."""

    name = "transposable"
    summary = "zeros that are N:M along inputs and outputs, then an exact fit"
    source = "NM7: Hubara et al. 2021, arXiv:2102.08124"
    needs: frozenset[Statistic] = frozenset({"hessian"})
    family: Family = "solver"
    cost = "small systems for every M x M block, and an exact fit"

    def why_not(self, layer: Layer, level: Level) -> str:
        """Output channels must split into groups of M as inputs do."""
        reason = why_not_pruned(self.name, layer, level)
        if reason:
            return reason
        if not isinstance(level.pattern, NM):
            return f"{layer.name}: transposable makes N:M zeros only, not {level}"
        rows = layer.output_channels // layer.groups
        if rows % level.pattern.group:
            return f"{layer.name}: {rows} outputs are no multiple of {level.pattern.group}"
        return ""

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Keep the weights that add most to the output, then fit them.

        Raises:
            CandidateError: the Hessian cannot be made positive definite.
        """
        assert isinstance(level.pattern, NM)
        problem = LayerProblem.of(layer, weight, statistics)
        norms = torch.diagonal(problem.hessian, dim1=-2, dim2=-1).sqrt()[:, None]
        scores = (problem.weight.abs() * norms).reshape(weight.shape)
        kept = project_transposable(scores, level.pattern)
        return settled(problem, problem.split(kept), level.precision)
