"""Idea: round one column after the other, each making up for the errors of those before it.

Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (arXiv:2210.17323).
Helps when: inputs are correlated and rounding to nearest costs accuracy.
Does nothing when: inputs are uncorrelated (then it rounds to nearest), or int8 is already as good
as fp32.
Cost: a K x K Hessian per group from one pass over the calibration data, its inverse (cubic in K)
and one sweep over the columns.
"""

from __future__ import annotations

from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level
from autosparse.levels.integer_grid import GRIDS, grid_scales, round_to_grid
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_rounded
from autosparse.methods.column_sweep import factor_of, sweep
from autosparse.methods.method import Family, Statistic
from autosparse.model_graph import Layer


class Gptq:
    """`dense:int8` and `dense:int4`, on the same grids as round_to_nearest."""

    name = "gptq"
    summary = "round to an integer grid, later weights making up for the error"
    source = "Frantar et al. 2022, arXiv:2210.17323"
    needs: frozenset[Statistic] = frozenset({"hessian"})
    family: Family = "rounding"
    cost = "an inverse, cubic in K, and a sweep over K columns"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes dense integer levels only."""
        return why_not_rounded(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Sweep over the columns.

        Raises:
            CandidateError: the Hessian has no inverse.
        """
        grid = GRIDS[level.precision]
        scales = grid_scales(weight, grid)
        factor = factor_of(layer, statistics)
        settled = sweep(weight, factor, level.pattern, scales, grid.largest)
        integers = round_to_grid(settled, scales, grid.largest)
        return CompressedWeight.quantized(integers.numpy(), scales.numpy())
