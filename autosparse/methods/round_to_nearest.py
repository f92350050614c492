"""Idea: put every weight on the nearest point of an integer grid, per channel or block, or of bf16.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (arXiv:1712.05877).
Helps when: weights that share a step have no far outliers; the INT8 opponent of everything else.
Does nothing when: the precision is fp32.
Cost: none worth naming; no data.
"""

from __future__ import annotations

from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Dense, Level, Precision
from autosparse.levels.bf16 import bf16_bits, from_bf16
from autosparse.levels.integer_grid import GRIDS, grid_scales, round_to_grid
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_rounded
from autosparse.methods.method import Family, Statistic
from autosparse.model_graph import Layer


def at_precision(weight: Tensor, precision: Precision) -> CompressedWeight:
    """The last step of every method: put a masked weight into the level's number format."""
    if precision is Precision.FP32:
        return CompressedWeight(values=weight.numpy())
    if precision is Precision.BF16:
        return CompressedWeight(values=from_bf16(bf16_bits(weight.float().numpy())))
    grid = GRIDS[precision]
    scales = grid_scales(weight, grid)
    integers = round_to_grid(weight, scales, grid.largest)
    return CompressedWeight.quantized(integers.numpy(), scales.numpy())


class RoundToNearest:
    """`dense:int8`, `dense:int4` and `dense:bf16`."""

    name = "round_to_nearest"
    summary = "nearest point of an integer grid, or nearest bf16"
    source = "Jacob et al. 2018, arXiv:1712.05877"
    needs: frozenset[Statistic] = frozenset()
    family: Family = "rounding"
    cost = "none worth naming"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes dense levels only."""
        if level.precision is Precision.BF16 and isinstance(level.pattern, Dense):
            return ""  # every number has a nearest one
        return why_not_rounded(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Round every weight to the grid of its channel or block."""
        return at_precision(weight, level.precision)
