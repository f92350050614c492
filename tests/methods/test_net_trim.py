from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.net_trim import trimmed

WEIGHT = torch.tensor([[[2.0, -0.4, 0.0, 1.0], [-3.0, 0.2, 1.0, -0.5]]]).double()


def test_independent_inputs_by_hand() -> None:
    """Every weight comes nearer to zero by the price: by 0.5, half of them get there."""
    found = trimmed(LayerProblem(WEIGHT, torch.eye(4).double()[None]), 0.5)
    assert found.price == pytest.approx(0.5, abs=0.01)
    expected = torch.tensor([[[1.5, 0, 0, 0.5], [-2.5, 0, 0.5, 0]]]).double()
    assert torch.allclose(found.weight, expected, atol=0.02)
    # what is zero is ranked as well
    assert found.scores[0].argsort(dim=1).tolist() == [[2, 1, 3, 0], [1, 3, 2, 0]]


def problem_of(seed: int, rows: int, outputs: int, inputs: int) -> LayerProblem:
    """A layer with correlated inputs."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(1, rows, inputs, generator=draw).double()
    values = values @ torch.randn(inputs, inputs, generator=draw).double()
    hessian = values.mT @ values / rows + 0.1 * torch.eye(inputs)
    return LayerProblem(torch.randn(1, outputs, inputs, generator=draw).double(), hessian)


@pytest.mark.checks("net_trim")
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_the_solution_is_optimal(sparsity: float) -> None:
    """The slope of the error is at most the price, and the price where a weight is not zero."""
    problem = problem_of(0, 50, 6, 12)
    found = trimmed(problem, sparsity)
    assert found.residual < 1e-3
    norms = torch.diagonal(problem.hessian, dim1=-2, dim2=-1).sqrt()[:, None]
    slope = (problem.weight - found.weight) @ problem.hessian / norms
    assert slope.abs().max() < 1.04 * found.price
    alive = found.weight != 0
    assert alive.any()
    assert torch.allclose(
        slope[alive], found.price * found.weight[alive].sign(), atol=0.04 * found.price
    )


def test_the_price_is_found_that_gives_as_many_zeros() -> None:
    left = trimmed(problem_of(1, 80, 16, 32), 0.75).weight
    assert float((left == 0).double().mean()) == pytest.approx(0.75, abs=0.05)


@pytest.mark.checks("net_trim")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("pattern", ["unstructured@0.5", "unstructured@0.8", "2:4", "block1x4@0.5"])
def test_it_loses_far_less_than_magnitude(
    output_error: Callable[[str, str], float], pattern: str, precision: str
) -> None:
    level = f"{pattern}:{precision}"
    assert output_error("net_trim", level) < 0.5 * output_error("magnitude", level)
