"""Rows that stay fitted while columns come and go, so that what an exchange costs is known exactly.

Every row of a layer is a least-squares problem over the columns that it keeps. Let x be its weights
and y = H (x - dense weights) the slope of its error: kept columns have y = 0, removed ones have
x = 0, and the rest follows. A principal pivot lets columns change sides and fits all others anew,
without another factorization (Tucker 1960, "A combinatorial equivalence of matrices"; the sweep
operator of statistics, Goodnight 1979).

Names of shapes: rows are those of one group of a convolution; runs are neighbouring columns, as
many as the pattern's groups or blocks are wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.methods.layer_problem import LayerProblem
from autosparse.model_graph import Layer

# Entries of the matrices that are held at once: 64 MiB of float64, with copies on the way.
_ENTRIES_AT_ONCE = 1 << 23
# The widest row whose matrix is kept: 128 MiB, of which there are some copies on the way.
_MOST_COLUMNS = 1 << 12


@dataclass
class FittedRows:
    """Rows of one group, each with the columns that it keeps, and the best weights on them."""

    kept: Tensor
    """(rows, K) bool."""
    values: Tensor
    """(rows, K): the weight of a kept column, the slope of the error by a removed one."""
    matrix: Tensor
    """(rows, K, K): how `values` move with the slopes of kept columns and the weights of removed
    ones. Of two kept columns it holds what the inverse of the Hessian's kept part does."""
    target: Tensor
    """(rows, K): the Hessian times the dense weights."""
    energy: Tensor
    """(rows,): squared output of the dense weights."""

    @classmethod
    def of(cls, hessian: Tensor, weight: Tensor, kept: Tensor) -> FittedRows:
        """Fit.

        Args:
            hessian: (K, K), positive definite.
            weight: (rows, K), the dense weights.
            kept: (rows, K) bool; not changed.
        """
        # rows that keep the same columns, as all do at the beginning, share a pivot
        pivots: dict[bytes, Tensor] = {}
        keys = [mask.numpy().tobytes() for mask in kept]
        for key, mask in zip(keys, kept, strict=True):
            if key not in pivots:
                pivots[key] = pivoted(hessian, mask)
        matrix = torch.stack([pivots[key] for key in keys])
        target = weight @ hessian
        answer = (matrix @ (target * kept)[..., None])[..., 0]
        return cls(
            kept=kept.clone(),
            values=torch.where(kept, answer, answer - target),
            matrix=matrix,
            target=target,
            energy=(target * weight).sum(dim=-1),
        )

    def errors(self) -> Tensor:
        """Squared output error of every row, (rows,)."""
        return self.energy - (self.values * self.target * self.kept).sum(dim=-1)

    def toggle(self, rows: Tensor, columns: Tensor) -> None:
        """Let columns change sides, and fit the others anew.

        Args:
            rows: (n,) indices.
            columns: (n, d) indices, different ones in each row.
        """
        size, each = columns.shape
        width = self.kept.shape[1]
        matrix, values = self.matrix[rows], self.values[rows]
        across = columns[:, None, :].expand(size, width, each)
        down = columns[:, :, None].expand(size, each, width)
        out_of, into = matrix.gather(1, down), matrix.gather(2, across)
        inverse = torch.linalg.inv(out_of.gather(2, across[:, :each]))
        lifted, turned = into @ inverse, -(inverse @ out_of)
        turned.scatter_(2, across[:, :each], inverse)
        own = values.gather(1, columns)[..., None]
        values -= (lifted @ own)[..., 0]
        matrix.baddbmm_(lifted, out_of, alpha=-1)
        self.matrix[rows] = matrix.scatter_(2, across, lifted).scatter_(1, down, turned)
        self.values[rows] = values.scatter_(1, columns, -(inverse @ own)[..., 0])
        kept = self.kept[rows]
        self.kept[rows] = kept.scatter(1, columns, ~kept.gather(1, columns))

    def change_by(self, rows: Tensor, columns: Tensor) -> Tensor:
        """What toggling columns would add to the error of each row, (n,).

        Args:
            rows: (n,) indices.
            columns: (n, d) indices, different ones in each row.
        """
        corner = self.matrix[rows[:, None, None], columns[:, :, None], columns[:, None, :]]
        own = self.values[rows].gather(1, columns)
        signs = torch.where(self.kept[rows].gather(1, columns), 1.0, -1.0)
        change: Tensor = (signs * own * _solved(corner, own)).sum(dim=-1)
        return change

    def worth(self, width: int) -> Tensor:
        """What every run is worth given the others, in squared error: (rows, runs).

        Of a run that is kept, what removing it would add; of one that is removed, what keeping it
        would save. A run is kept or removed as a whole.
        """
        blocks = runs_of(self.matrix, width)
        values = self.values.reshape(blocks.shape[:-1])
        worth: Tensor = (values * _solved(blocks, values)).sum(dim=-1)
        return worth

    def best_exchange(self, width: int) -> tuple[Tensor, Tensor]:
        """The exchange of two columns of one run that lowers the error of each row most.

        Args:
            width: columns of a run.

        Returns:
            What it adds to the error, (rows,), infinite where a row has no exchange; the columns
            that go and come, (rows, 2).
        """
        blocks = runs_of(self.matrix, width)
        values, kept = self.values.reshape(blocks.shape[:-1]), self.kept.reshape(blocks.shape[:-1])
        sizes = torch.diagonal(blocks, dim1=-2, dim2=-1)
        going, coming = values[..., :, None], values[..., None, :]
        size, other = sizes[..., :, None], sizes[..., None, :]
        # `change_by` for a kept column and a removed one, written out
        change = other * going.square() - 2 * blocks * going * coming - size * coming.square()
        change = change / (size * other + blocks.square())
        change = torch.where(kept[..., :, None] & ~kept[..., None, :], change, torch.inf)
        best, place = change.flatten(1).min(dim=1)
        run, pair = place // width**2, place % width**2
        columns = torch.stack([pair // width, pair % width], dim=1)
        return best, columns + width * run[:, None]


def why_too_wide(method: str, layer: Layer) -> str:
    """Why a layer's rows are too long for `method` to keep fitted; empty where they are not."""
    if layer.reduction <= _MOST_COLUMNS:
        return ""
    return (
        f"{layer.name}: {layer.reduction} weights per output are more than the {_MOST_COLUMNS} "
        f"whose matrix {method} keeps for every output"
    )


def pivoted(hessian: Tensor, kept: Tensor) -> Tensor:
    """`FittedRows.matrix` of one row.

    Args:
        hessian: (K, K), positive definite.
        kept: (K,) bool.
    """
    order = kept.int().argsort(descending=True, stable=True)
    sorted_, count = hessian[order][:, order], int(kept.sum())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(sorted_[:count, :count]))
    across = sorted_[count:, :count] @ inverse
    rest = sorted_[count:, count:] - across @ sorted_[:count, count:]
    halves = torch.cat([inverse, -across.mT], dim=1), torch.cat([across, rest], dim=1)
    back = order.argsort()
    return torch.cat(halves)[back][:, back]


def runs_of(matrix: Tensor, width: int) -> Tensor:
    """(rows, K, K) -> (rows, runs, width, width): the blocks on the diagonal."""
    rows, columns, _ = matrix.shape
    runs = columns // width
    split = matrix.reshape(rows, runs, width, runs, width)
    return split.diagonal(dim1=1, dim2=3).movedim(-1, 1)


def slices(problem: LayerProblem, multiple: int = 1) -> Iterator[tuple[int, slice]]:
    """Yield groups, and the rows of them whose matrices fit into the memory together.

    Args:
        problem: the layer.
        multiple: neighbouring rows that must not be parted.
    """
    groups, rows, columns = problem.weight.shape
    at_once = max(_ENTRIES_AT_ONCE // columns**2 // multiple, 1) * multiple
    for group in range(groups):
        for start in range(0, rows, at_once):
            yield group, slice(start, start + at_once)


def _solved(matrices: Tensor, values: Tensor) -> Tensor:
    """(..., d, d) and (..., d) -> (..., d)."""
    solved: Tensor = torch.linalg.solve(matrices, values[..., None])
    return solved[..., 0]
