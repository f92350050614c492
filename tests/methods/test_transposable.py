from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level
from autosparse.methods.transposable import Transposable
from autosparse.model_graph import Layer
from tests.levels.test_transposable import every_pattern

LEVEL = Level.parse("2:4:fp32")


def layer_of(rows: int) -> Layer:
    return Layer("fc", "fc_node", "Gemm", "x", "y", "w", (rows, 8), None, transposed=True)


@pytest.mark.checks("transposable")
def test_what_adds_most_to_the_output_is_kept() -> None:
    """Inputs are independent and unequally loud: against the best mask of every 4 x 4 block."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(64, 64, generator=draw)
    loud = torch.logspace(-1.0, 1.0, 64)[torch.randperm(64, generator=draw)]
    statistics = LayerStatistics(1, hessian=torch.diag(loud.square())[None].numpy())
    layer = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (64, 64), None, transposed=True)
    made = Transposable().compress(layer, weight, LEVEL, statistics)
    scores = as_blocks((weight.abs() * loud).double())
    best = torch.einsum("bij,pij->bp", scores, every_pattern()).amax(dim=1)
    kept = as_blocks(torch.tensor(made.values != 0).double())
    assert float((scores * kept).sum() / best.sum()) > 0.98


def as_blocks(matrix: torch.Tensor) -> torch.Tensor:
    """(64, 64) -> (256, 4, 4)."""
    return matrix.reshape(16, 4, 16, 4).transpose(1, 2).reshape(-1, 4, 4)


@pytest.mark.checks("transposable")
def test_the_zeros_are_n_m_in_both_directions() -> None:
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    statistics = LayerStatistics(1, hessian=np.eye(8, dtype=np.float32)[None])
    made = Transposable().compress(layer_of(4), weight, LEVEL, statistics)
    kept = torch.tensor(made.values != 0)
    assert (kept.reshape(-1, 4).sum(dim=1) == 2).all()
    assert (kept.T.reshape(-1, 4).sum(dim=1) == 2).all()
    # inputs are independent: the kept weights are the dense ones, but for the damping
    assert torch.allclose(torch.tensor(made.values)[kept], weight[kept], rtol=1e-4)


def test_the_fit_makes_up_for_the_second_direction(
    output_error: Callable[[str, str], float],
) -> None:
    ours, wanda, magnitude = (
        output_error(method, "2:4:fp32") for method in ("transposable", "wanda", "magnitude")
    )
    assert ours < wanda < magnitude
    assert ours < 0.6 * magnitude


def test_outputs_must_split_too() -> None:
    reason = Transposable().why_not(layer_of(6), LEVEL)
    assert reason == "fc: 6 outputs are no multiple of 4"
    reason = Transposable().why_not(layer_of(8), Level.parse("unstructured@0.5:fp32"))
    assert reason == "fc: transposable makes N:M zeros only, not unstructured@0.5:fp32"
