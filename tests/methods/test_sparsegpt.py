from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from autosparse.calibration import LayerStatistics
from autosparse.levels import NM, Block, Level, Unstructured
from autosparse.methods.column_sweep import inverse_factor, sweep
from autosparse.methods.sparsegpt import SparseGpt
from autosparse.model_graph import Layer

# two pairs of inputs, each pair correlated by one half
PAIRS = torch.tensor([[[1.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1]]])
FACTOR = inverse_factor(PAIRS, damping=0.0)
LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)


def test_two_of_four_by_hand() -> None:
    # costs 3, 25, 6.75, 1: the first and the last go; the second takes over half of the first
    # costs 4.69, 1, 0.75, 4: the middle ones go; the last takes over half of the third
    weight = torch.tensor([[2.0, 5.0, 3.0, 1.0], [-2.5, 1.0, 1.0, 2.0]])
    expected = torch.tensor([[0.0, 6.0, 3.0, 0.0], [-2.5, 0.0, 0.0, 2.5]]).double()
    assert torch.allclose(sweep(weight, FACTOR, NM(nonzeros=2, group=4)), expected)


def test_unstructured_by_hand() -> None:
    # costs 3, 25, 6.75, 1 and 12, 1, 0.75, 4, compared over both rows: five stay
    weight = torch.tensor([[2.0, 5.0, 3.0, 1.0], [-4.0, 1.0, 1.0, 2.0]])
    expected = torch.tensor([[0.0, 6.0, 3.0, 0.0], [-4.0, 0.0, 0.0, 2.5]]).double()
    assert torch.allclose(sweep(weight, FACTOR, Unstructured(sparsity=0.5)), expected)


def test_blocks_by_hand() -> None:
    # as pairs, 3 and -3 cost 9 + 9 - 9 and 1 and 3 cost 1 + 9 + 3; one by one, the second pair
    # would look cheaper: 6.75 + 9 against 0.75 + 9
    weight = torch.tensor([[3.0, -3.0, 1.0, 3.0], [0.5, 0.0, 4.0, 4.0]])
    expected = torch.tensor([[0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 4.0, 4.0]]).double()
    settled = sweep(weight, FACTOR, Block(rows=1, columns=2, sparsity=0.5))
    assert torch.allclose(settled, expected)


def test_integers_by_hand() -> None:
    # on a grid of whole numbers: 2.2 takes over half of the third, 2.7, and becomes 3; what
    # rounding -2.6 to -3 lost goes to the second, which is a zero of the pattern and stays one
    weight = torch.tensor([[2.0, 5.0, 3.0, 1.0], [-2.6, 1.0, 1.0, 2.2]])
    settled = sweep(weight, FACTOR, NM(nonzeros=2, group=4), torch.ones(2))
    assert settled.tolist() == [[0, 6, 3, 0], [-3, 0, 0, 3]]


def test_a_twin_takes_over_the_whole_weight() -> None:
    """Inputs come in identical pairs: half of the weights can go without any loss."""
    twins = torch.kron(torch.eye(4), torch.ones(2, 2))[None].numpy()
    layer = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (3, 8), None, transposed=True)
    weight = 1 + torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    made = SparseGpt().compress(
        layer, weight, Level.parse("unstructured@0.5:fp32"), LayerStatistics(1, hessian=twins)
    )
    assert made.sparsity == 0.5
    sums = weight.reshape(3, 4, 2).sum(dim=2)
    assert np.allclose(made.values.reshape(3, 4, 2).sum(axis=2), sums, rtol=0.02)


@pytest.mark.checks("sparsegpt", "wanda")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("pattern", ["unstructured@0.5", "unstructured@0.8", "2:4", "block1x4@0.5"])
def test_it_loses_less_than_wanda_and_wanda_less_than_magnitude(
    output_error: Callable[[str, str], float], pattern: str, precision: str
) -> None:
    level = f"{pattern}:{precision}"
    sparsegpt, wanda, magnitude = (
        output_error(method, level) for method in ("sparsegpt", "wanda", "magnitude")
    )
    assert sparsegpt < wanda < magnitude


def test_the_grid_reaches_the_weights_that_grew() -> None:
    statistics = LayerStatistics(1, hessian=PAIRS.numpy())
    weight = torch.tensor([[4.0, 5.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0]])
    made = SparseGpt().compress(LAYER, weight, Level.parse("1:4:int8"), statistics)
    assert made.integers is not None
    # 5 takes over half of 4; a grid that ends at 5 would clip it
    assert made.values[0, 1] == pytest.approx(7.0, abs=0.05)
    assert made.integers.tolist() == [[0, 127, 0, 0], [0, 0, 0, 127]]
