from __future__ import annotations

import numpy as np
import pytest
import torch

from autosparse.calibration import NO_STATISTICS
from autosparse.levels import Level, Precision
from autosparse.levels.integer_grid import GRIDS, channel_scales, grid_scales, round_to_grid
from autosparse.methods.round_to_nearest import RoundToNearest
from autosparse.model_graph import Layer

LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)


def test_the_grid_reaches_the_largest_weight_of_each_channel() -> None:
    weight = torch.tensor([[127.0, -1.4, 0.0, 0.6], [-0.5, 0.25, 0.0, 0.125]])
    scales = channel_scales(weight)
    assert torch.allclose(scales, torch.tensor([1.0, 0.5 / 127]))
    # 0.25 is 63.5 steps, a tie, to the even 64; 0.125 is 31.75 steps
    assert round_to_grid(weight, scales).tolist() == [[127, -1, 0, 1], [-127, 64, 0, 32]]


def test_a_channel_of_zeros_has_a_grid() -> None:
    weight = torch.zeros(2, 4)
    assert channel_scales(weight).tolist() == [1.0, 1.0]
    assert round_to_grid(weight, channel_scales(weight)).count_nonzero() == 0


def test_every_block_of_32_has_a_grid_of_4_bits_of_its_own() -> None:
    weight = torch.zeros(1, 64)
    weight[0, :4] = torch.tensor([7.0, -3.4, 0.5, 1.5])
    weight[0, 32:35] = torch.tensor([-0.7, 0.26, 0.04])
    grid = GRIDS[Precision.INT4]
    scales = grid_scales(weight, grid)
    assert torch.allclose(scales, torch.tensor([[1.0, 0.1]]))
    # half a step is a tie, to the even integer; 0.26 is 2.6 steps of the second block
    integers = round_to_grid(weight, scales, grid.largest)
    assert integers[0, :4].tolist() == [7, -3, 0, 2]
    assert integers[0, 32:35].tolist() == [-7, 3, 0]


@pytest.mark.checks("round_to_nearest")
def test_4_bit_weights_are_within_half_a_step_of_their_block() -> None:
    weight = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    layer = Layer("fc", "n", "Gemm", "x", "y", "w", (5, 96), None, transposed=True)
    made = RoundToNearest().compress(layer, weight, Level.parse("dense:int4"), NO_STATISTICS)
    assert made.block == 32
    assert made.scales is not None
    steps = torch.tensor(made.scales).repeat_interleave(32, dim=1)
    assert ((weight - torch.tensor(made.values)).abs() <= 0.50001 * steps).all()


def test_blocks_must_be_whole() -> None:
    reason = RoundToNearest().why_not(LAYER, Level.parse("dense:int4"))
    assert reason == "fc: 4 weights per output are no multiple of 32, dense:int4 needs one"


def test_levels_of_other_methods_are_refused() -> None:
    method = RoundToNearest()
    assert "fc: round_to_nearest makes no zeros" in method.why_not(LAYER, Level.parse("2:4:int8"))
    assert "fc: round_to_nearest makes no zeros" in method.why_not(LAYER, Level.parse("2:4:bf16"))
    assert not method.why_not(LAYER, Level.parse("dense:int8"))


def test_bf16_is_the_nearest_number_of_eight_digits() -> None:
    weight = torch.tensor([[1.0, 1 + 2**-8, 1 + 3 * 2**-8, -3.14159265]])
    made = RoundToNearest().compress(LAYER, weight, Level.parse("dense:bf16"), NO_STATISTICS)
    np.testing.assert_array_equal(made.values, [[1.0, 1.0, 1 + 2**-6, -3.140625]])
    assert made.integers is None
