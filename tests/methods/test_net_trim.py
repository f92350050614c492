from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.net_trim import trimmed, trimmed_to

WEIGHT = torch.tensor([[[2.0, -0.4, 0.0, 1.0], [-3.0, 0.2, 1.0, -0.5]]]).double()


def test_independent_inputs_by_hand() -> None:
    """Every weight then comes nearer to zero by the price, and no further than zero."""
    found = trimmed(LayerProblem(WEIGHT, torch.eye(4).double()[None]), price=0.5)
    expected = torch.tensor([[[1.5, 0, 0, 0.5], [-2.5, 0, 0.5, 0]]]).double()
    assert torch.allclose(found.weight, expected, atol=2e-3)
    assert found.residual < 1e-3


@pytest.mark.checks("net_trim")
def test_the_solution_is_optimal() -> None:
    """The slope of the error is at most the price, and the price where a weight is not zero."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(1, 50, 12, generator=draw).double()
    rows = rows @ torch.randn(12, 12, generator=draw).double()
    problem = LayerProblem(
        torch.randn(1, 6, 12, generator=draw).double(), rows.mT @ rows / 50 + 0.1 * torch.eye(12)
    )
    found = trimmed(problem, price=0.5)
    norms = torch.diagonal(problem.hessian, dim1=-2, dim2=-1).sqrt()[:, None]
    slope = (problem.weight - found.weight) @ problem.hessian / norms
    assert slope.abs().max() < 0.52
    alive = found.weight != 0
    assert 0.2 < alive.double().mean() < 0.9
    assert torch.allclose(slope[alive], 0.5 * found.weight[alive].sign(), atol=0.02)


def test_the_price_is_found_that_gives_as_many_zeros() -> None:
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(1, 80, 32, generator=draw).double()
    problem = LayerProblem(torch.randn(1, 16, 32, generator=draw).double(), rows.mT @ rows / 80)
    left = trimmed_to(problem, 0.75)
    assert float((left == 0).double().mean()) == pytest.approx(0.75, abs=0.03)


@pytest.mark.checks("net_trim")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("pattern", ["unstructured@0.5", "unstructured@0.8", "2:4", "block1x4@0.5"])
def test_it_loses_far_less_than_magnitude(
    output_error: Callable[[str, str], float], pattern: str, precision: str
) -> None:
    level = f"{pattern}:{precision}"
    assert output_error("net_trim", level) < 0.5 * output_error("magnitude", level)
