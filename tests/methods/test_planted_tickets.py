"""Which of a planted ticket each method finds (`tests/planted_tickets.py`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from autosparse.levels import Level
from autosparse.methods import METHODS
from tests.planted_tickets import BLOCKS, LAYER, TWO_OF_FOUR, UNSTRUCTURED, planted_ticket

# What each method finds of the ticket, less a little: a method that finds less has got worse.
FOUND = {
    "magnitude": 0.54, "wanda": 0.54, "sparsegpt": 0.39, "gblm": 0.54, "dsnot": 0.75,
    "spectrum": 0.54, "net_trim": 0.86, "greedy_descent": 0.86, "chita": 0.53, "alps": 0.97,
    "transposable": 0.81, "nm_descent": 0.97, "gqsa": 0.97,
}  # fmt: skip
# Where a method does not make unstructured zeros.
LEVELS = {"transposable": TWO_OF_FOUR, "nm_descent": TWO_OF_FOUR, "gqsa": BLOCKS}
_LEAST = 0.15


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("level", [UNSTRUCTURED, TWO_OF_FOUR, BLOCKS])
def test_the_ticket_gives_the_outputs_and_cannot_be_seen(level: str) -> None:
    planted = planted_ticket(level)
    outputs, hidden = planted.rows @ planted.weight.T, planted.rows @ planted.ticket.T
    assert torch.allclose(outputs, hidden, atol=1e-3)
    zeros = float((planted.ticket == 0).float().mean())
    assert zeros == pytest.approx(planted.level.sparsity, abs=1e-3)
    junk = planted.weight - planted.ticket
    assert float(junk.norm()) > 0.5 * float(planted.ticket.norm())


def test_every_method_that_makes_zeros_seeks() -> None:
    makers = {
        name
        for name in METHODS.names()
        for level in (UNSTRUCTURED, TWO_OF_FOUR, BLOCKS)
        if not METHODS.load(name).why_not(LAYER, Level.parse(level))
    }
    assert set(FOUND) == makers


@pytest.mark.checks("planted tickets")
@pytest.mark.parametrize("name", FOUND)
def test_a_method_finds_as_much_of_the_ticket_as_ever(name: str) -> None:
    planted = planted_ticket(LEVELS.get(name, UNSTRUCTURED))
    made = METHODS.load(name).compress(LAYER, planted.weight, planted.level, planted.statistics)
    found = planted.overlap(torch.tensor(made.values) != 0)
    assert found >= FOUND[name], f"{name} finds {found:.3f} of the ticket"
    assert planted.beyond_chance(found) > _LEAST
