"""Integers and steps of a grid in turns, each as good as the other allows."""

from __future__ import annotations

import torch
from torch import Tensor

from autosparse.levels.integer_grid import LARGEST_INT8
from autosparse.methods.layer_problem import LayerProblem

# Turns of steps and integers. Few rows need more than three.
_MOST_TURNS = 8


def descended_on_grid(
    problem: LayerProblem, integers: Tensor, steps: Tensor, largest: int = LARGEST_INT8
) -> tuple[Tensor, Tensor]:
    """Move steps and integers until neither lowers the error of the outputs.

    A step is a factor of its row: the best one is a division. Then every integer in turn goes where
    the error is least, given the others; zeros stay zeros. Neither ever raises the error.

    Args:
        problem: the layer.
        integers: (groups, rows, K) float64 whole numbers, where to start; not changed.
        steps: (groups, rows), positive.
        largest: largest integer of the grid.

    Returns:
        Integers and steps of the same shapes; the steps are float32 numbers, as files hold them.
    """
    integers, kept = integers.clone(), integers != 0
    for _ in range(_MOST_TURNS):
        steps = best_steps(problem, integers, steps)
        if not _settle_integers(problem, integers, steps, kept, largest):
            break
    return integers, steps


def best_steps(problem: LayerProblem, integers: Tensor, steps: Tensor) -> Tensor:
    """The step of every row with which its integers keep the outputs best: (groups, rows).

    Args:
        problem: the layer.
        integers: (groups, rows, K).
        steps: (groups, rows), kept where no positive one is better.
    """
    products = integers @ problem.hessian
    own = (products * integers).sum(dim=-1)
    wanted = (products * problem.weight).sum(dim=-1)
    better = (own > 0) & (wanted > 0)
    return torch.where(better, wanted / torch.where(better, own, 1.0), steps).float().double()


def _settle_integers(
    problem: LayerProblem, integers: Tensor, steps: Tensor, kept: Tensor, largest: int
) -> bool:
    """One pass over the columns, in place; whether any integer moved."""
    slope = (integers * steps[..., None] - problem.weight) @ problem.hessian
    moved = False
    for column in range(integers.shape[-1]):
        size = problem.hessian[:, column, column, None]
        current = integers[..., column]
        exact = current - slope[..., column] / (size * steps)
        change = (exact.round().clamp(-largest, largest) - current) * kept[..., column]
        if change.any():
            current += change
            slope += (change * steps)[..., None] * problem.hessian[:, None, column]
            moved = True
    return moved
