"""One layer whose inputs are correlated and of unequal size, as in a real network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level
from autosparse.methods import METHODS
from autosparse.model_graph import Layer

COLUMNS = 192  # more than one block of the sweep


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The operations are tiny: on a busy machine, threads would wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _row_gradients(rows: Tensor, draw: torch.Generator) -> Tensor:
    """Of outputs that are the layer's own, each row along a random direction."""
    return torch.randn(len(rows), 32, 1, generator=draw) * rows[:, None]


@pytest.fixture(scope="session")
def output_error() -> Callable[[str, str], float]:
    """(method, level) -> mean squared error of the layer's output on its calibration rows."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(512, COLUMNS, generator=draw)
    rows = rows @ torch.randn(COLUMNS, COLUMNS, generator=draw) / COLUMNS**0.5
    rows *= torch.logspace(-0.5, 0.5, COLUMNS)[torch.randperm(COLUMNS, generator=draw)]
    weight = torch.randn(32, COLUMNS, generator=draw)
    layer = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (32, COLUMNS), None, transposed=True)
    statistics = LayerStatistics(
        rows=len(rows),
        input_norms=rows.norm(dim=0)[None].numpy(),
        hessian=(rows.T @ rows / len(rows))[None].numpy(),
        gradient_norms=rows.square().mean(dim=0).sqrt().expand(32, -1).numpy(),
        row_gradients=_row_gradients(rows, draw).numpy(),
    )

    def error(method: str, level: str) -> float:
        made = METHODS.load(method).compress(layer, weight, Level.parse(level), statistics)
        return float((rows @ (weight - torch.tensor(made.values)).T).square().mean())

    return error
