"""Idea: the smallest weights matter least, so they become zero.

Source: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks"
(arXiv:1506.02626).
Helps when: as the control arm of every other pruning method, and before recovery training.
Does nothing when: the pattern is dense. It does not look at the data, so it loses much at high
sparsity.
Cost: none worth naming; no data.
"""

from __future__ import annotations

from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level, Precision
from autosparse.levels.masks import project
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.method import Family, Statistic
from autosparse.methods.round_to_nearest import at_precision
from autosparse.model_graph import Layer

_PRECISIONS = (Precision.FP32, Precision.BF16, Precision.INT8)


def magnitude_scores(weight: Tensor) -> Tensor:
    """|weight|: (output channels, K), a higher score means keep."""
    return weight.abs()


class Magnitude:
    """Any pattern, fp32, bf16 or int8."""

    name = "magnitude"
    summary = "zero the smallest weights"
    source = "Han et al. 2015, arXiv:1506.02626"
    needs: frozenset[Statistic] = frozenset()
    family: Family = "score"
    cost = "none worth naming"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes every pattern with zeros that fits the layer."""
        return why_not_pruned(self.name, layer, level, _PRECISIONS)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Zero the smallest weights, then round where the level asks for integers."""
        mask = project(magnitude_scores(weight), level.pattern)
        return at_precision(weight * mask, level.precision)
