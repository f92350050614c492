from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from autosparse.calibration import NO_STATISTICS
from autosparse.errors import AutoSparseError
from autosparse.levels import Level, Unstructured
from autosparse.levels.masks import project
from autosparse.methods.chita import Chita, GradientQuadratic, pruned_and_updated
from autosparse.model_graph import Layer

LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)
HALF = Unstructured(sparsity=0.5)


def test_a_twin_takes_over_by_hand() -> None:
    # outputs depend on the sum of each pair only, so half of the weights can go for nothing
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    gradients = torch.kron(torch.eye(4), torch.ones(1, 2)).reshape(4, 2, 4)
    quadratic = GradientQuadratic.of(weight, gradients, ridge=1e-6)
    kept = torch.tensor([False, True] * 4)
    expected = torch.tensor([0.0, 3, 0, 7, 0, 11, 0, 15]).double()
    assert torch.allclose(quadratic.minimum(kept), expected, atol=1e-3)
    # the largest four would leave the first two pairs empty
    found = pruned_and_updated(quadratic, weight.shape, HALF)
    assert torch.allclose(
        found.reshape(4, 2).sum(dim=1), torch.tensor([3.0, 7, 11, 15]).double(), atol=1e-3
    )


def test_the_minimum_is_that_of_the_whole_matrix() -> None:
    draw = torch.Generator().manual_seed(0)
    weight, gradients = torch.randn(2, 4, generator=draw), torch.randn(5, 2, 4, generator=draw)
    quadratic = GradientQuadratic.of(weight, gradients)
    kept = project(weight.abs(), HALF).flatten()
    found = quadratic.minimum(kept)
    assert torch.allclose(quadratic.slope(found)[kept], torch.zeros(4).double(), atol=1e-12)
    assert not found[~kept].any()


@pytest.mark.checks("chita")
def test_the_objective_is_far_below_that_of_magnitude_with_the_best_update() -> None:
    draw = torch.Generator().manual_seed(0)
    weight, gradients = torch.randn(16, 16, generator=draw), torch.randn(60, 16, 16, generator=draw)
    gradients = gradients * torch.rand(16, 16, generator=draw).square()
    quadratic = GradientQuadratic.of(weight, gradients, ridge=0.01)
    start = quadratic.minimum(project(weight.abs(), HALF).flatten())
    found = pruned_and_updated(quadratic, weight.shape, HALF)
    assert int((found == 0).sum()) == 128
    assert quadratic.value(found.flatten()) < 0.7 * quadratic.value(start)


@pytest.mark.parametrize("level", ["unstructured@0.5:fp32", "2:4:fp32", "block1x4@0.5:fp32"])
def test_it_loses_less_than_magnitude(
    output_error: Callable[[str, str], float], level: str
) -> None:
    assert output_error("chita", level) < 0.95 * output_error("magnitude", level)


def test_a_large_layer_is_refused() -> None:
    large = Layer("big", "n", "Gemm", "x", "y", "w", (512, 512), None, transposed=True)
    reason = Chita().why_not(large, Level.parse("2:4:fp32"))
    assert reason.startswith("big: 262144 weights are more than")


def test_without_gradients_it_stops() -> None:
    with pytest.raises(AutoSparseError, match="fc: its statistics hold no gradients"):
        Chita().compress(LAYER, torch.ones(2, 4), Level.parse("2:4:fp32"), NO_STATISTICS)
