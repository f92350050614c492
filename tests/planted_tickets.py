"""Tickets with a known truth, to be found by whatever makes zeros.

As in Plant 'n' Seek (seed AN5: Fischer & Burkholz 2022, arXiv:2111.11153), the answer is planted: a
sparse weight gives all outputs. It is hidden under weights that change no output, since the inputs
leave some directions empty, and that are as large as the ticket's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import NM, Level
from autosparse.levels.masks import project
from autosparse.levels.transposable import project_transposable
from autosparse.model_graph import Layer

ROWS, COLUMNS = 24, 64
UNSTRUCTURED, TWO_OF_FOUR, BLOCKS = "unstructured@0.85:fp32", "2:4:fp32", "block1x4@0.75:int8"
# Directions that inputs take: more than a row of the ticket has weights.
_RANKS = {UNSTRUCTURED: 40, TWO_OF_FOUR: 56, BLOCKS: 56}
_HIDING = 24
LAYER = Layer("fc", "n", "Gemm", "x", "y", "w", (ROWS, COLUMNS), None, transposed=True)


@dataclass(frozen=True)
class PlantedTicket:
    """A layer, and what is hidden in it."""

    level: Level
    ticket: Tensor
    weight: Tensor
    statistics: LayerStatistics
    rows: Tensor

    def overlap(self, kept: Tensor) -> float:
        """Share of the ticket's weights that are kept."""
        truth = self.ticket != 0
        return float((kept & truth).sum() / truth.sum())

    def beyond_chance(self, overlap: float) -> float:
        """0 for what zeros at random would find, 1 for all of it."""
        return (overlap - 1 + self.level.sparsity) / self.level.sparsity


@cache
def planted_ticket(spelling: str) -> PlantedTicket:
    """The same one at every call. Zeros of N:M are N:M in both directions."""
    level, rank = Level.parse(spelling), _RANKS[spelling]
    draw = torch.Generator().manual_seed(7)
    basis = torch.linalg.qr(torch.randn(COLUMNS, COLUMNS, generator=draw))[0]
    seen, empty = basis[:, :rank], basis[:, rank:]
    rows = torch.randn(400, rank, generator=draw) @ seen.T
    ticket = torch.randn(ROWS, COLUMNS, generator=draw)
    ticket = ticket.sign() * (0.5 + ticket.abs())
    scores, pattern = torch.rand(ROWS, COLUMNS, generator=draw), level.pattern
    if isinstance(pattern, NM):
        ticket *= project_transposable(scores, pattern)
    else:
        ticket *= project(scores, pattern)
    # as large whatever the rank
    hiding = torch.randn(ROWS, COLUMNS - rank, generator=draw) @ empty.T
    hiding *= (_HIDING / (COLUMNS - rank)) ** 0.5
    slopes = torch.randn(len(rows), ROWS, 1, generator=draw) * rows[:, None]
    statistics = LayerStatistics(
        rows=len(rows), input_norms=rows.norm(dim=0)[None].numpy(),
        hessian=(rows.T @ rows / len(rows))[None].numpy(),
        gradient_norms=slopes.square().mean(dim=0).sqrt().numpy(),
        row_gradients=slopes[:128].numpy(),
    )  # fmt: skip
    return PlantedTicket(level, ticket, ticket + hiding, statistics, rows)
