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
from autosparse.levels import Dense, Level, Precision
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.column_sweep import factor_of, sweep
from autosparse.methods.method import Statistic
from autosparse.methods.round_to_nearest import channel_scales, round_to_grid
from autosparse.model_graph import Layer


class Gptq:
    """`dense:int8`, on the same per-channel grid as round_to_nearest."""

    name = "gptq"
    summary = "round to an integer grid, later weights making up for the error"
    source = "Frantar et al. 2022, arXiv:2210.17323"
    needs: frozenset[Statistic] = frozenset({"hessian"})

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes dense integer levels only."""
        if not isinstance(level.pattern, Dense):
            return f"{layer.name}: gptq makes no zeros, {level} needs a pruning method"
        if level.precision is not Precision.INT8:
            return f"{layer.name}: gptq does not make {level.precision.value}"
        return ""

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Sweep over the columns.

        Raises:
            CandidateError: the Hessian has no inverse.
        """
        scales = channel_scales(weight)
        settled = sweep(weight, factor_of(layer, statistics), level.pattern, scales)
        return CompressedWeight.quantized(round_to_grid(settled, scales).numpy(), scales.numpy())
