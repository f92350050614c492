"""Given which weights may differ from zero: what they should be, exactly, and on a grid.

Every row of a layer is a least-squares problem of its own, over the columns that it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autosparse.levels import Precision
from autosparse.levels.integer_grid import LARGEST_INT8, channel_scales, round_to_grid
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.layer_problem import LayerProblem

# Entries of the systems that are solved at once: 8 MiB of float64, of which there are several
# copies on the way.
_ENTRIES_AT_ONCE = 1 << 20
Floats = npt.NDArray[np.float64]


def settled(problem: LayerProblem, kept: Tensor, precision: Precision) -> CompressedWeight:
    """The last step of a method that chooses a support: the best weights on it.

    Args:
        problem: the layer.
        kept: (groups, rows, K) bool.
        precision: fp32 or int8.
    """
    columns = kept.shape[-1]
    if precision is Precision.FP32:
        return CompressedWeight(values=refit(problem, kept).reshape(-1, columns).float().numpy())
    rounded, steps = refit_on_grid(problem, kept)
    scales = steps.reshape(-1).float()
    integers = round_to_grid(rounded.reshape(-1, columns), scales)
    return CompressedWeight.quantized(integers.numpy(), scales.numpy())


def refit(problem: LayerProblem, kept: Tensor) -> Tensor:
    """The weights that keep the outputs best, given which of them may differ from zero.

    Args:
        problem: the layer.
        kept: (groups, rows, K) bool.

    Returns:
        (groups, rows, K) float64, zero where nothing is kept.
    """
    result = torch.zeros_like(problem.weight)
    for part in _systems(problem, kept):
        part.store(result, part.solved(part.factor()))
    return result


def refit_on_grid(
    problem: LayerProblem, kept: Tensor, scales: Callable[[Tensor], Tensor] = channel_scales
) -> tuple[Tensor, Tensor]:
    """Refit, then round weight after weight, the later kept ones making up for the error.

    With H = M M^T, M upper triangular, the error of the outputs is the sum over the columns of
    (M_jj d_j + sum of M_ij d_i over the earlier ones)^2, d being what the weights are off: so
    each column in turn can make its term as small as its grid allows. This is what GPTQ does
    with the inverse (Chen et al. 2025: Babai's nearest plane), without one.

    Args:
        problem: the layer.
        kept: (groups, rows, K) bool.
        scales: (rows, K) refitted weights -> (rows,) steps of the rows' grids.

    Returns:
        (groups, rows, K) float64 on the grid, zero where nothing is kept; (groups, rows) steps.
    """
    result = torch.zeros_like(problem.weight)
    steps = torch.ones(problem.weight.shape[:2], dtype=torch.float64)
    for part in _systems(problem, kept):
        factor = part.factor()
        fitted = part.solved(factor)
        # float32, as the file will hold them
        step = steps[part.group, part.rows] = scales(fitted.float()).double()
        part.store(result, torch.from_numpy(_nearest_plane(factor, fitted, step)))
    return result, steps


def _nearest_plane(factor: Tensor, fitted: Tensor, step: Tensor) -> Floats:
    """(rows, S) on the grid. In NumPy: a row or two at a time, calls cost more than sums."""
    upper, wanted, steps = factor.numpy(), fitted.numpy(), step.numpy()
    rounded, pull = np.zeros_like(wanted), np.zeros_like(wanted)
    for column in range(wanted.shape[1]):
        exact = wanted[:, column] - pull[:, column] / upper[:, column, column]
        integers = np.clip(np.rint(exact / steps), -LARGEST_INT8, LARGEST_INT8)
        rounded[:, column] = integers * steps
        off = rounded[:, column] - wanted[:, column]
        pull[:, column + 1 :] += off[:, None] * upper[:, column, column + 1 :]
    return rounded


@dataclass(frozen=True)
class _Systems:
    """Some rows of one group, each with the matrix of the columns that it keeps."""

    group: int
    rows: slice
    columns: Tensor
    """(rows, S): the kept columns first, then others to make the rows equally long."""
    real: Tensor
    """(rows, S) bool: which of them are kept."""
    matrix: Tensor
    """(rows, S, S): the Hessian's part; ones on the diagonal where a column is not kept."""
    target: Tensor
    """(rows, S): what the matrix times the refitted weights must be; 0 where not kept."""

    def factor(self) -> Tensor:
        """(rows, S, S) upper triangular M with matrix = M M^T."""
        # the usual factor, seen from the last column
        lower: Tensor = torch.linalg.cholesky(self.matrix.flip(-2, -1))
        return lower.flip(-2, -1)

    def solved(self, factor: Tensor) -> Tensor:
        """(rows, S): the refitted weights, given the factor."""
        half = torch.linalg.solve_triangular(factor, self.target[..., None], upper=True)
        solved: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=False)
        return solved[..., 0]

    def store(self, result: Tensor, values: Tensor) -> None:
        """Put (rows, S) values to their columns of a (groups, rows, K) tensor of zeros."""
        result[self.group, self.rows].scatter_(1, self.columns, values * self.real)


def _systems(problem: LayerProblem, kept: Tensor) -> Iterator[_Systems]:
    """Yield as many rows at once as fit into the memory."""
    wanted = problem.weight @ problem.hessian
    for group, mask in enumerate(kept):
        most = max(int(mask.sum(dim=1).max()), 1)
        at_once = max(_ENTRIES_AT_ONCE // most**2, 1)
        for start in range(0, len(mask), at_once):
            rows = slice(start, start + at_once)
            order = mask[rows].int().argsort(dim=1, descending=True, stable=True)
            columns = order[:, : max(int(mask[rows].sum(dim=1).max()), 1)]
            real = mask[rows].gather(1, columns)
            matrix = problem.hessian[group][columns[:, :, None], columns[:, None, :]]
            matrix = matrix * (real[:, :, None] & real[:, None, :])
            torch.diagonal(matrix, dim1=-2, dim2=-1)[~real] = 1.0
            target = wanted[group, rows].gather(1, columns) * real
            yield _Systems(group, rows, columns, real, matrix, target)
