from __future__ import annotations

import torch

from autosparse.methods.bias_correction import bias_change

WEIGHT = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 1.0, -1.0]])
COMPRESSED = torch.tensor([[0.0, 2.0, 0.0, 4.0], [1.0, 0.0, 1.0, 0.0]])


def test_by_hand() -> None:
    means = torch.tensor([[0.5, 1.0, 2.0, 0.0]])
    # 1 x 0.5 + 3 x 2, and -1 x 1 - 1 x 0
    assert bias_change(WEIGHT, COMPRESSED, means).tolist() == [6.5, -1.0]


def test_each_group_has_its_own_means() -> None:
    means = torch.tensor([[0.5, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 3.0]])
    assert bias_change(WEIGHT, COMPRESSED, means).tolist() == [6.5, -3.0]


def test_the_mean_output_is_kept() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.rand(50, 4, generator=draw)
    change = bias_change(WEIGHT, COMPRESSED, rows.mean(dim=0)[None])
    before, after = (rows @ WEIGHT.T).mean(dim=0), (rows @ COMPRESSED.T).mean(dim=0)
    assert torch.allclose(after + change, before)
