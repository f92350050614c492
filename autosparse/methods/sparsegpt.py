"""Idea: remove the weights whose loss the others can make up for best, and let them do so.

Source: Frantar and Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
One-Shot" (arXiv:2301.00774). Two things differ: how many zeros each block of columns gets is
chosen over the whole layer instead of evenly, and the integer grid is fitted to the updated
weights, which grow.
Helps when: inputs are correlated, as they are in nearly every layer; the more the sparser.
Does nothing when: inputs are uncorrelated (then it only selects, like wanda), or there are hardly
any calibration rows.
Cost: a K x K Hessian per group from one pass over the calibration data, its inverse (cubic in K)
and one sweep over the columns; two sweeps for int8. Seconds for a small network.
"""

from __future__ import annotations

from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level, Precision
from autosparse.levels.integer_grid import channel_scales, round_to_grid
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.column_sweep import factor_of, sweep
from autosparse.methods.method import Family, Statistic
from autosparse.model_graph import Layer


class SparseGpt:
    """Any pattern, fp32 or int8; the kept weights change."""

    name = "sparsegpt"
    summary = "zero weights and update the others to make up for them"
    source = "Frantar and Alistarh 2023, arXiv:2301.00774"
    needs: frozenset[Statistic] = frozenset({"hessian"})
    family: Family = "solver"
    cost = "an inverse, cubic in K, and a sweep over K columns"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes every pattern with zeros that fits the layer."""
        return why_not_pruned(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Sweep over the columns, with the rounding in the same sweep for integers.

        Raises:
            CandidateError: the Hessian has no inverse.
        """
        factor = factor_of(layer, statistics)
        pruned = sweep(weight, factor, level.pattern).float()
        if level.precision is Precision.FP32:
            return CompressedWeight(values=pruned.numpy())
        # the kept weights have grown: a grid of the dense weight's reach would clip them
        scales = channel_scales(pruned)
        settled = sweep(weight, factor, level.pattern, scales)
        return CompressedWeight.quantized(round_to_grid(settled, scales).numpy(), scales.numpy())
