from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level
from autosparse.methods.transposable import Transposable
from autosparse.model_graph import Layer

LEVEL = Level.parse("2:4:fp32")


def layer_of(rows: int) -> Layer:
    return Layer("fc", "fc_node", "Gemm", "x", "y", "w", (rows, 8), None, transposed=True)


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
