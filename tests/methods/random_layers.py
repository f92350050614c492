"""Layers with random weights and correlated inputs of unequal size, and ratios of their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import fmean, stdev

import torch
from torch import Tensor

from autosparse.methods.layer_problem import LayerProblem, positive_definite

DRAWS = 6
_STUDENT_95 = 2.571  # two-sided, for as many draws less one


def drawn(seed: int, rows: int = 16, columns: int = 64) -> LayerProblem:
    """A layer on four times as many input rows as it has columns."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(4 * columns, columns, generator=draw)
    inputs = inputs @ torch.randn(columns, columns, generator=draw) / columns**0.5
    inputs *= torch.logspace(-0.5, 0.5, columns)[torch.randperm(columns, generator=draw)]
    weight = torch.randn(1, rows, columns, generator=draw).double()
    return LayerProblem(weight, positive_definite((inputs.mT @ inputs / len(inputs))[None]))


def layers() -> Iterator[LayerProblem]:
    """Some of them."""
    return (drawn(seed) for seed in range(DRAWS))


def by_wanda(problem: LayerProblem) -> Tensor:
    """|weight| x input norm, as scores: (groups, rows, K)."""
    return problem.weight.abs() * torch.diagonal(problem.hessian, dim1=-2, dim2=-1).sqrt()[:, None]


def ratio_interval(
    ours: Callable[[LayerProblem], float], theirs: Callable[[LayerProblem], float]
) -> tuple[float, float]:
    """Where the mean ratio of two errors lies, at 95 %."""
    logs = [math.log(ours(problem) / theirs(problem)) for problem in layers()]
    centre, spread = fmean(logs), _STUDENT_95 * stdev(logs) / len(logs) ** 0.5
    return math.exp(centre - spread), math.exp(centre + spread)
