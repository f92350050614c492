"""Tickets with a known truth: which of them each method finds.

As in Plant 'n' Seek (seed AN5: Fischer & Burkholz 2022, arXiv:2111.11153), the answer is planted: a
sparse weight gives all outputs. It is hidden under weights that change no output, since the inputs
leave some directions empty, and that are as large as the ticket's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level
from autosparse.methods import METHODS
from autosparse.model_graph import Layer

ROWS, COLUMNS, RANK, SPARSITY = 24, 64, 40, 0.85
LEVEL = Level.parse(f"unstructured@{SPARSITY}:fp32")
BY_CHANCE = 1 - SPARSITY
# What each method finds of the ticket, less a little: a method that finds less has got worse.
FOUND = {
    "magnitude": 0.54, "wanda": 0.54, "sparsegpt": 0.39, "gblm": 0.54, "dsnot": 0.75,
    "spectrum": 0.54, "net_trim": 0.86, "greedy_descent": 0.86, "chita": 0.53, "alps": 0.97,
}  # fmt: skip
LAYER = Layer("fc", "n", "Gemm", "x", "y", "w", (ROWS, COLUMNS), None, transposed=True)
PRUNING = [name for name in METHODS.names() if not METHODS.load(name).why_not(LAYER, LEVEL)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Planted:
    """A layer, and what is hidden in it."""

    ticket: Tensor
    weight: Tensor
    statistics: LayerStatistics
    rows: Tensor


@pytest.fixture(scope="module")
def planted() -> Planted:
    draw = torch.Generator().manual_seed(7)
    basis = torch.linalg.qr(torch.randn(COLUMNS, COLUMNS, generator=draw))[0]
    seen, empty = basis[:, :RANK], basis[:, RANK:]
    rows = torch.randn(400, RANK, generator=draw) @ seen.T
    ticket = torch.randn(ROWS, COLUMNS, generator=draw)
    ticket = ticket.sign() * (0.5 + ticket.abs())
    scores = torch.rand(ROWS, COLUMNS, generator=draw)
    ticket *= scores >= scores.flatten().kthvalue(round(SPARSITY * scores.numel())).values
    hiding = torch.randn(ROWS, COLUMNS - RANK, generator=draw) @ empty.T
    slopes = torch.randn(len(rows), ROWS, 1, generator=draw) * rows[:, None]
    statistics = LayerStatistics(
        rows=len(rows), input_norms=rows.norm(dim=0)[None].numpy(),
        hessian=(rows.T @ rows / len(rows))[None].numpy(),
        gradient_norms=slopes.square().mean(dim=0).sqrt().numpy(),
        row_gradients=slopes[:128].numpy(),
    )  # fmt: skip
    return Planted(ticket, ticket + hiding, statistics, rows)


def overlap(planted: Planted, kept: Tensor) -> float:
    """Share of the ticket's weights that are kept."""
    truth = planted.ticket != 0
    return float((kept & truth).sum() / truth.sum())


def test_the_ticket_gives_the_outputs_and_cannot_be_seen(planted: Planted) -> None:
    outputs, hidden = planted.rows @ planted.weight.T, planted.rows @ planted.ticket.T
    assert torch.allclose(outputs, hidden, atol=1e-3)
    junk = planted.weight - planted.ticket
    assert float(junk.norm()) > 0.5 * float(planted.ticket.norm())


@pytest.mark.checks("planted tickets")
@pytest.mark.parametrize("name", PRUNING)
def test_a_method_finds_as_much_of_the_ticket_as_ever(planted: Planted, name: str) -> None:
    made = METHODS.load(name).compress(LAYER, planted.weight, LEVEL, planted.statistics)
    found = overlap(planted, torch.tensor(made.values) != 0)
    assert found >= FOUND[name], f"{name} finds {found:.3f} of the ticket"
    assert found > 2 * BY_CHANCE
