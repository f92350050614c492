"""Given which weights may differ from zero: what they should be, exactly, and on a grid.

Every row of a layer is a least-squares problem of its own, over the columns that it keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.levels import Precision
from autosparse.levels.integer_grid import LARGEST_INT8, channel_scales, round_to_grid
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.layer_problem import LayerProblem, upper_factor_of_inverse

# Entries of the systems that are solved at once: 8 MiB of float64, of which there are several
# copies on the way.
_ENTRIES_AT_ONCE = 1 << 20


def settled(problem: LayerProblem, kept: Tensor, precision: Precision) -> CompressedWeight:
    """The last step of a method that chooses a support: the best weights on it.

    Args:
        problem: the layer.
        kept: (groups, rows, K) bool.
        precision: fp32 or int8.
    """
    columns = kept.shape[-1]
    fitted = refit(problem, kept)
    matrix = fitted.reshape(-1, columns).float()
    if precision is Precision.FP32:
        return CompressedWeight(values=matrix.numpy())
    scales = channel_scales(matrix)
    rounded = round_fitted(problem, kept, fitted, scales.double().reshape(fitted.shape[:2]))
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
    wanted = problem.weight @ problem.hessian
    result = torch.zeros_like(problem.weight)
    for part in _systems(problem, kept):
        target = wanted[part.group, part.rows].gather(1, part.columns) * part.real
        factor = torch.linalg.cholesky(part.matrix)
        solved = torch.cholesky_solve(target[..., None], factor)[..., 0]
        part.store(result, solved)
    return result


def round_fitted(problem: LayerProblem, kept: Tensor, fitted: Tensor, scales: Tensor) -> Tensor:
    """Round weight after weight, the later kept ones of a row making up for the error.

    Args:
        problem: the layer.
        kept: (groups, rows, K) bool.
        fitted: (groups, rows, K), what `refit` returned.
        scales: (groups, rows), step of every row's grid.

    Returns:
        (groups, rows, K) float64 on the grid, zero where nothing is kept.
    """
    result = torch.zeros_like(fitted)
    for part in _systems(problem, kept):
        factor = upper_factor_of_inverse(part.matrix)
        rest = fitted[part.group, part.rows].gather(1, part.columns) * part.real
        steps = scales[part.group, part.rows]
        for column in range(rest.shape[1]):
            current = rest[:, column].clone()
            rest[:, column] = (current / steps).round().clamp(-LARGEST_INT8, LARGEST_INT8) * steps
            error = (current - rest[:, column]) / factor[:, column, column]
            rest[:, column + 1 :] -= error[:, None] * factor[:, column, column + 1 :]
        part.store(result, rest)
    return result


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

    def store(self, result: Tensor, values: Tensor) -> None:
        """Put (rows, S) values to their columns of a (groups, rows, K) tensor of zeros."""
        result[self.group, self.rows].scatter_(1, self.columns, values * self.real)


def _systems(problem: LayerProblem, kept: Tensor) -> Iterator[_Systems]:
    """Yield as many rows at once as fit into the memory."""
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
            yield _Systems(group, rows, columns, real, matrix)
