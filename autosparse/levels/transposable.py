"""Masks that are N:M along the inputs and along the outputs, so that the transpose is N:M too.

Every M x M block is a transport problem with capacities: as much score as possible, N in each row
and in each column, at most one in each place. Smoothed by the entropy of the places, it has a
concave dual in one number for each row and column, which is solved as in Tang et al. 2024,
"Accelerating Sinkhorn Algorithm with Sparse Newton Iterations" (NM7): a few steps that settle rows
and columns in turn, then Newton's steps for all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.errors import AutoSparseError
from autosparse.levels.pattern import NM

# Smoothing, as a share of a block's largest score: small enough to round, large enough to solve.
SMOOTHING = 0.03
_SCALING_STEPS, _MOST_STEPS = 5, 60
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Transport:
    """The smoothed solution."""

    plan: Tensor
    """(blocks, M, M) in [0, 1]: how much of every place is kept."""
    steps: int
    """Until the sums of rows and columns were within the tolerance, or the limit."""


def project_transposable(scores: Tensor, pattern: NM) -> Tensor:
    """Keep what scores highest, with at most N in every M places of a row and of a column.

    Args:
        scores: (rows, K), none negative; rows and K are multiples of M.
        pattern: N and M.

    Returns:
        (rows, K) bool; exactly N of M in both directions.
    """
    rows, columns = scores.shape
    size = pattern.group
    if rows % size or columns % size:
        raise AutoSparseError(
            f"{rows} x {columns} weights do not split into {size} x {size} blocks"
        )
    blocks = scores.double().reshape(rows // size, size, columns // size, size).transpose(1, 2)
    flat = blocks.reshape(-1, size, size)
    kept = _rounded(flat, transport(flat, pattern.nonzeros).plan, pattern.nonzeros)
    return kept.reshape(blocks.shape).transpose(1, 2).reshape(rows, columns)


def transport(scores: Tensor, each: int) -> Transport:
    """Solve the smoothed problem of every block.

    Args:
        scores: (blocks, M, M) float64, none negative.
        each: N, what rows and columns sum to.
    """
    largest = scores.amax(dim=(1, 2), keepdim=True)
    logits = scores / (SMOOTHING * torch.where(largest > 0, largest, 1.0))
    size = scores.shape[-1]
    # rows and columns begin where the average place is kept N / M of the way
    dual = -logits.mean(dim=(1, 2))[:, None].expand(-1, 2 * size) / 2
    step = 0
    for step in range(1, _MOST_STEPS + 1):
        plan = _plan(logits, dual)
        excess = _excess(plan, each)
        if float(excess.abs().max()) < TOLERANCE:
            break
        settles = step <= _SCALING_STEPS
        dual = _settled(logits, dual, each) if settles else _newton(logits, dual, each)
    return Transport(_plan(logits, dual), step)


def _plan(logits: Tensor, dual: Tensor) -> Tensor:
    size = logits.shape[-1]
    return torch.sigmoid(logits + dual[:, :size, None] + dual[:, None, size:])


def _excess(plan: Tensor, each: int) -> Tensor:
    """What rows, then columns, sum to beyond N: (blocks, 2 M), the slope of the dual."""
    return torch.cat([plan.sum(dim=2), plan.sum(dim=1)], dim=1) - each


def _settled(logits: Tensor, dual: Tensor, each: int) -> Tensor:
    """Settle all rows, then all columns, each by one step of Newton for its own number."""
    size = logits.shape[-1]
    for part, axis in ((slice(0, size), 2), (slice(size, None), 1)):
        plan = _plan(logits, dual)
        slope = (plan * (1 - plan)).sum(dim=axis).clamp_min(1e-3)
        change = ((plan.sum(dim=axis) - each) / slope).clamp(-2.0, 2.0)
        dual = dual.clone()
        dual[:, part] -= change
    return dual


def _newton(logits: Tensor, dual: Tensor, each: int) -> Tensor:
    """One step for all numbers together, no longer than what still lowers the dual."""
    plan = _plan(logits, dual)
    weight = plan * (1 - plan)
    system = torch.cat([
        torch.cat([torch.diag_embed(weight.sum(dim=2)), weight], dim=2),
        torch.cat([weight.mT, torch.diag_embed(weight.sum(dim=1))], dim=2),
    ], dim=1)  # fmt: skip
    # adding to all rows what is taken from all columns changes nothing: that direction is held
    system.diagonal(dim1=1, dim2=2).add_(1e-8)
    excess = _excess(plan, each)
    change = torch.linalg.solve(system, excess)
    start = _potential(logits, dual, each)
    promised = (excess * change).sum(dim=1)
    length = torch.ones_like(start)
    for _ in range(20):
        found = _potential(logits, dual - length[:, None] * change, each)
        short = found > start - 1e-4 * length * promised + 1e-12 * start.abs()
        if not short.any():
            break
        length = torch.where(short, length / 2, length)
    stepped: Tensor = dual - length[:, None] * change
    return stepped


def _potential(logits: Tensor, dual: Tensor, each: int) -> Tensor:
    """The dual, to be minimized: its slope is the excess. (blocks,)."""
    size = logits.shape[-1]
    inner = logits + dual[:, :size, None] + dual[:, None, size:]
    value: Tensor = torch.nn.functional.softplus(inner).sum(dim=(1, 2)) - each * dual.sum(dim=1)
    return value


def _rounded(scores: Tensor, plan: Tensor, each: int) -> Tensor:
    """Places in the order of the plan as long as row and column have room, then what is missing."""
    blocks, size, _ = scores.shape
    kept = torch.zeros_like(scores, dtype=torch.bool)
    index = torch.arange(blocks)
    order = plan.reshape(blocks, -1).argsort(dim=1, descending=True, stable=True)
    for place in order.T:
        row, column = place // size, place % size
        room = (kept[index, row].sum(dim=1) < each) & (kept[index, :, column].sum(dim=1) < each)
        kept[index, row, column] = room
    for _ in range(size * each):
        kept = _completed(scores, kept, each)
    return kept


def _completed(scores: Tensor, kept: Tensor, each: int) -> Tensor:
    """Give a row and a column with room one place each, by moving one that is kept.

    A kept place (r, c) becomes (row, c) and (r, column), of all possible ones the best.
    """
    missing = each - kept.sum(dim=2)
    open_blocks = (missing > 0).any(dim=1)
    if not open_blocks.any():
        return kept
    index = torch.arange(len(kept))
    row, column = missing.argmax(dim=1), (each - kept.sum(dim=1)).argmax(dim=1)
    own_row, own_column = scores[index, row][:, None, :], scores[index, :, column][:, :, None]
    free = ~kept[index, row][:, None, :] & ~kept[index, :, column][:, :, None]
    gain = torch.where(kept & free, own_row + own_column - scores, -torch.inf)
    best = gain.flatten(1).argmax(dim=1)
    at, to = best // scores.shape[-1], best % scores.shape[-1]
    changed = kept.clone()
    changed[index, at, to] = False
    changed[index, row, to] = True
    changed[index, at, column] = True
    return torch.where(open_blocks[:, None, None], changed, kept)
