from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from autosparse.methods.greedy_descent import Descent, descended_to
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.net_trim import trimmed


def correlated(rows: int, columns: int) -> LayerProblem:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(4 * columns, columns, generator=draw).double()
    mixing = torch.eye(columns) + 0.3 * torch.randn(columns, columns, generator=draw)
    inputs = inputs @ mixing.double()
    weight = torch.randn(1, rows, columns, generator=draw).double()
    return LayerProblem(weight, (inputs.mT @ inputs / len(inputs))[None])


def test_two_steps_by_hand() -> None:
    # inputs correlated by one half; at price 1 the slopes are 2 + 1.5 and 3 + 1: the second weight
    # moves to 4 - 1 = 3, after which the slope of the first is 3.5 - 1.5 = 2: it moves to 1
    weight = torch.tensor([[[2.0, 3.0, 0.0, 0.0], [0.0, 0.0, -5.0, 0.5]]]).double()
    hessian = torch.eye(4).double()[None].clone()
    hessian[0, 0, 1] = hessian[0, 1, 0] = 0.5
    descent = Descent.of(LayerProblem(weight, hessian))
    descent.run(price=1.0, most=1)
    assert descent.weight.tolist() == [[[0, 3, 0, 0], [0, 0, -4, 0]]]
    descent.run(price=1.0, most=1)
    assert descent.weight.tolist() == [[[1, 3, 0, 0], [0, 0, -4, 0]]]


def test_it_ends_where_net_trim_ends() -> None:
    problem = correlated(8, 24)
    found = trimmed(problem, 0.4)
    descent = Descent.of(problem)
    descent.smallest *= 1e-6
    descent.run(price=found.price, most=2000)
    scale = torch.diagonal(problem.hessian, dim1=-2, dim2=-1).sqrt()[:, None]
    ours, other = descent.weight / scale, found.weight
    values = [
        float(problem.errors(weight).sum() / 2 + found.price * (weight * scale).abs().sum())
        for weight in (ours, other)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    assert ((ours == 0) == (other == 0)).double().mean() > 0.95


@pytest.mark.checks("greedy_descent")
def test_the_greedy_rule_needs_half_the_steps_of_taking_turns() -> None:
    steps, supports = [], []
    for rule in ("greedy", "cyclic"):
        descent = Descent.of(correlated(1, 64))
        descent.run(price=1.0, most=20_000, rule=rule)
        steps.append(descent.steps)
        supports.append(descent.weight != 0)
    assert 2 * steps[0] < steps[1]
    assert (supports[0] == supports[1]).double().mean() > 0.95


def test_the_price_is_found_that_gives_as_many_zeros() -> None:
    left = descended_to(correlated(16, 64), 0.75)
    assert float((left == 0).double().mean()) == pytest.approx(0.75, abs=0.05)


@pytest.mark.checks("greedy_descent")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("pattern", ["unstructured@0.5", "unstructured@0.8", "2:4", "block1x4@0.5"])
def test_it_loses_far_less_than_magnitude(
    output_error: Callable[[str, str], float], pattern: str, precision: str
) -> None:
    level = f"{pattern}:{precision}"
    assert output_error("greedy_descent", level) < 0.5 * output_error("magnitude", level)
