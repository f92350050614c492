from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from autosparse.calibration import LayerStatistics
from autosparse.levels import Dense, Level
from autosparse.methods.column_sweep import inverse_factor, sweep
from autosparse.methods.gptq import Gptq
from autosparse.methods.round_to_nearest import RoundToNearest
from autosparse.model_graph import Layer

# two pairs of inputs, each pair correlated by one half
PAIRS = torch.tensor([[[1.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1]]])
LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)


def test_rounding_errors_are_handed_on_by_hand() -> None:
    # 0.6 -> 1 overshoots by 0.4, so 1.6 aims at 1.4; 3 is exact, so -2.4 stays
    # -1.4 -> -1 leaves -0.4, so 0.4 aims at 0.2; 2.3 -> 2 leaves 0.3, so 5.4 aims at 5.55
    weight = torch.tensor([[0.6, 1.6, 3.0, -2.4], [-1.4, 0.4, 2.3, 5.4]])
    settled = sweep(weight, inverse_factor(PAIRS, damping=0.0), Dense(), torch.ones(2))
    assert settled.tolist() == [[1, 1, 3, -2], [-1, 0, 2, 6]]


def test_every_block_is_swept_on_its_own_steps_by_hand() -> None:
    # blocks of two: steps 1 and 2; 0.6 -> 1 leaves -0.4, so 1.6 aims at 1.4; 5.4 -> 6 leaves -0.6,
    # so -2.4 aims at -2.7; 9 would be 4.5 steps of the second block, and 3 is the largest
    weight = torch.tensor([[0.6, 1.6, 5.4, -2.4], [1.0, 1.0, 0.0, 9.0]])
    scales = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    settled = sweep(weight, inverse_factor(PAIRS, damping=0.0), Dense(), scales, largest=3)
    assert settled.tolist() == [[1, 1, 6, -2], [1, 1, 0, 6]]


@pytest.mark.checks("gptq")
@pytest.mark.parametrize("level", ["dense:int8", "dense:int4"])
def test_it_loses_less_than_rounding_to_nearest(
    output_error: Callable[[str, str], float], level: str
) -> None:
    assert output_error("gptq", level) < 0.9 * output_error("round_to_nearest", level)


def test_uncorrelated_inputs_are_rounded_to_nearest() -> None:
    level = Level.parse("dense:int8")
    weight = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    statistics = LayerStatistics(1, hessian=np.eye(4, dtype=np.float32)[None])
    made = Gptq().compress(LAYER, weight, level, statistics)
    nearest = RoundToNearest().compress(LAYER, weight, level, statistics)
    assert np.array_equal(made.values, nearest.values)


def test_levels_of_other_methods_are_refused() -> None:
    assert "fc: gptq makes no zeros" in Gptq().why_not(LAYER, Level.parse("2:4:int8"))
    assert "fc: gptq does not make fp32" in Gptq().why_not(LAYER, Level.parse("dense:fp32"))
