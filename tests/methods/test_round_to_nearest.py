from __future__ import annotations

import torch

from autosparse.levels import Level
from autosparse.methods.integer_grid import channel_scales, round_to_grid
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


def test_levels_of_other_methods_are_refused() -> None:
    method = RoundToNearest()
    assert "fc: round_to_nearest makes no zeros" in method.why_not(LAYER, Level.parse("2:4:int8"))
    assert "fc: round_to_nearest does not" in method.why_not(LAYER, Level.parse("dense:bf16"))
    assert not method.why_not(LAYER, Level.parse("dense:int8"))
