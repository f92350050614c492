"""Idea: choose blocks by what the Hessian says they are worth, then fit them on their grid.

Source: Zeng et al. 2024, "GQSA: Group Quantization and Sparsity for Accelerating Large Language
Model Inference" (seed QU1, arXiv:2412.17560). As there, blocks of consecutive weights are ranked
by a saliency from the inverse of the Hessian, and what is left is optimized on its grid. Three
things differ. A block's saliency is what removing it costs while all other weights make up for it,
and blocks are exchanged by it as long as the error falls. The paper trains a transformer block at
a time by gradients; here a layer's outputs are kept, the best integers for the steps and the best
steps for the integers in turns. And the level is int8 with a step per output channel, not 4 bits
with one per group: no kernel skips blocks of 4-bit weights, or has several steps in a row of a
sparse layer. A weight so takes 5 bits at half of the blocks, positions included, against less than
3. In 8 bits rounding adds a thousandth to the error that the zeros make, so that it is the blocks
that tell. The second stage, in which the steps are trained through the whole model, is the recovery
`gqsa_steps`.
Helps when: the pattern is blocks in int8, inputs are correlated, and the layer is not large. It
leaves as much error as ALPS does, a few hundredths less at nine tenths of zeros.
Does nothing when: inputs are uncorrelated: then there is nothing to exchange.
Cost: for every row an inverse of K x K and an update of it for each exchange: rows x K^3. Seconds
for a layer with hundreds of inputs; at 1536, two thirds of a second a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.errors import AutoSparseError
from autosparse.levels import Block, Level, Precision
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.fitted_rows import FittedRows, slices, why_too_wide
from autosparse.methods.grid_descent import descended_on_grid
from autosparse.methods.kept_weights import refit_on_grid
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.method import Family, Statistic
from autosparse.model_graph import Layer

# What an exchange must give, as a share of a row's mean error and of its output.
_WORTHWHILE, _SMALLEST = 1e-3, 1e-12
# Rounds of exchanges, in each of which a row changes two blocks at most.
_MOST_ROUNDS = 100


def chosen_blocks(problem: LayerProblem, pattern: Block) -> Tensor:
    """Which weights to keep: (groups, rows, K) bool, whole blocks."""
    return exchanged(problem, problem.kept(saliency(problem, pattern), pattern), pattern)


def saliency(problem: LayerProblem, pattern: Block) -> Tensor:
    """What removing each block alone would cost, shared out over its weights: (groups, rows, K)."""
    width = pattern.columns
    every = torch.ones_like(problem.weight, dtype=torch.bool)
    scores = torch.zeros_like(problem.weight)
    for group, rows in slices(problem):
        fitted = FittedRows.of(
            problem.hessian[group], problem.weight[group, rows], every[group, rows]
        )
        scores[group, rows] = fitted.worth(width).repeat_interleave(width, dim=1) / width
    return scores


def exchanged(problem: LayerProblem, kept: Tensor, pattern: Block) -> Tensor:
    """Exchange blocks within rows and between them, as long as the error falls.

    Args:
        problem: the layer.
        kept: (groups, rows, K) bool, whole blocks, where to start; not changed.
        pattern: the blocks.

    Returns:
        (groups, rows, K) bool, with as many blocks.
    """
    kept = kept.clone()
    for group, rows in slices(problem, pattern.rows):
        blocks = _Blocks(
            FittedRows.of(problem.hessian[group], problem.weight[group, rows], kept[group, rows]),
            pattern,
        )
        smallest = blocks.worthwhile()
        for _ in range(_MOST_ROUNDS):
            within = blocks.exchange_within(smallest)
            between = blocks.exchange_between(smallest)
            if not within and not between:
                break
        kept[group, rows] = blocks.fitted.kept
    return kept


class _Blocks:
    """Rows whose blocks are exchanged. A line is as many neighbouring rows as a block is high."""

    def __init__(self, fitted: FittedRows, pattern: Block) -> None:
        self.fitted, self._high, self._wide = fitted, pattern.rows, pattern.columns

    def worthwhile(self) -> float:
        """What an exchange must give."""
        error, energy = self.fitted.errors().mean(), self.fitted.energy.mean()
        return float(_WORTHWHILE * error + _SMALLEST * energy)

    def exchange_within(self, smallest: float) -> bool:
        """Each line exchanges its cheapest block for its dearest missing one, if that pays."""
        low, going, high, coming = self._offers()
        lines = (low.isfinite() & high.isfinite()).nonzero()[:, 0]
        columns = torch.cat([self._columns(going[lines]), self._columns(coming[lines])], dim=1)
        rows = self._rows(lines)
        change = self.fitted.change_by(rows, columns.repeat_interleave(self._high, dim=0))
        pays = change.reshape(-1, self._high).sum(dim=1) < -smallest
        return self._toggle(lines[pays], columns[pays])

    def exchange_between(self, smallest: float) -> bool:
        """Lines that lack a dear block take it from lines that have a cheap one.

        A line is in one exchange at a time, so that its gain is the difference of the two.
        """
        low, going, high, coming = self._offers()
        pairs = _pairs(low, high, smallest)
        givers, takers = (torch.tensor(lines, dtype=torch.long) for lines in pairs)
        given = self._toggle(givers, self._columns(going[givers]))
        return self._toggle(takers, self._columns(coming[takers])) or given

    def _offers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Worth and place of each line's cheapest block, and of its dearest missing one."""
        worth = self.fitted.worth(self._wide)
        worth = worth.reshape(-1, self._high, worth.shape[1]).sum(dim=1)
        kept = self.fitted.kept[:: self._high, :: self._wide]
        low, going = torch.where(kept, worth, torch.inf).min(dim=1)
        high, coming = torch.where(kept, -torch.inf, worth).max(dim=1)
        return low, going, high, coming

    def _columns(self, blocks: Tensor) -> Tensor:
        return self._wide * blocks[:, None] + torch.arange(self._wide)

    def _rows(self, lines: Tensor) -> Tensor:
        return (self._high * lines[:, None] + torch.arange(self._high)).flatten()

    def _toggle(self, lines: Tensor, columns: Tensor) -> bool:
        """Let columns of every line change sides; whether there were any."""
        if len(lines):
            self.fitted.toggle(self._rows(lines), columns.repeat_interleave(self._high, dim=0))
        return len(lines) > 0


def _pairs(low: Tensor, high: Tensor, smallest: float) -> tuple[list[int], list[int]]:
    """Lines that give a block, and those that take one, the most gain first."""
    givers: list[int] = []
    takers: list[int] = []
    cheapest = low.argsort().tolist()
    for taker in high.argsort(descending=True).tolist():
        busy = {*givers, *takers, taker}
        giver = next((line for line in cheapest if line not in busy), None)
        if taker in givers or giver is None:
            continue
        if not float(high[taker] - low[giver]) > smallest:
            break
        givers.append(giver)
        takers.append(taker)
    return givers, takers


class Gqsa:
    """Blocks in int8."""

    name = "gqsa"
    summary = "blocks by Hessian saliency, exchanged; then integers and steps in turns"
    source = "QU1: the first stage of GQSA, Zeng et al. 2024, arXiv:2412.17560"
    needs: frozenset[Statistic] = frozenset({"hessian"})
    family: Family = "solver"
    cost = "an inverse with updates, cubic in K, for every row"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes blocks on an integer grid."""
        reason = why_not_pruned(self.name, layer, level) or why_too_wide(self.name, layer)
        if reason:
            return reason
        if not isinstance(level.pattern, Block) or level.precision is not Precision.INT8:
            return f"{layer.name}: gqsa makes blocks in int8 only, not {level}"
        rows = layer.output_channels // layer.groups
        if rows % level.pattern.rows:
            return (
                f"{layer.name}: {rows} outputs of a group are no multiple of {level.pattern.rows}"
            )
        return ""

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Choose the blocks, fit what is in them, and descend on the grid.

        Raises:
            CandidateError: the Hessian cannot be made positive definite.
        """
        if not isinstance(level.pattern, Block):
            raise AutoSparseError(f"gqsa makes blocks only, not {level}")
        problem = LayerProblem.of(layer, weight, statistics)
        rounded, steps = refit_on_grid(problem, chosen_blocks(problem, level.pattern))
        integers = (rounded / steps[..., None]).round()
        integers, steps = descended_on_grid(problem, integers, steps)
        return CompressedWeight.quantized(
            integers.reshape(weight.shape).to(torch.int8).numpy(),
            steps.flatten().float().numpy(),
        )
