from __future__ import annotations

import pytest
import torch

from autosparse.levels import NM, Level
from autosparse.methods.fitted_rows import FittedRows
from autosparse.methods.gqsa import Gqsa
from autosparse.methods.kept_weights import refit
from autosparse.methods.nm_descent import NmDescent
from autosparse.model_graph import Layer
from tests.methods.random_layers import by_wanda, drawn

# two pairs of inputs, each pair correlated by one half
PAIRS = torch.tensor([[1.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1]]).double()
WEIGHT = torch.tensor([[2.0, 5.0, 3.0, 1.0]]).double()


def fitted(*columns: int) -> FittedRows:
    kept = torch.zeros(1, 4, dtype=torch.bool)
    kept[0, list(columns)] = True
    return FittedRows.of(PAIRS, WEIGHT, kept)


def test_weights_slopes_and_the_error_by_hand() -> None:
    # each kept one takes over half of its removed twin; of 2 and 1, three quarters are not made
    # up for: 4 x 0.75 + 1 x 0.75
    rows = fitted(1, 2)
    assert torch.allclose(rows.values, torch.tensor([[-1.5, 6.0, 3.5, -0.75]]).double())
    assert rows.errors().tolist() == pytest.approx([3.75])


def test_what_columns_are_worth_by_hand() -> None:
    rows = fitted(1, 2)
    assert rows.worth(1)[0].tolist() == pytest.approx([3.0, 36.0, 12.25, 0.75])
    # as pairs: all of the first is 4 + 25 + 10, of the second 9 + 1 + 3
    assert fitted(0, 1, 2, 3).worth(2)[0].tolist() == pytest.approx([39.0, 13.0])
    assert fitted().worth(2)[0].tolist() == pytest.approx([39.0, 13.0])


def test_the_best_exchange_by_hand() -> None:
    # with 2 and 3 kept the error is 25 x 0.75 + 0.75; 5 in place of 2 makes it 3.75
    rows = fitted(0, 2)
    change, columns = rows.best_exchange(4)
    assert change.tolist() == pytest.approx([-15.75])
    assert columns.tolist() == [[0, 1]]
    # within the pairs, too; and a row that keeps all or nothing has no exchange
    assert rows.best_exchange(2)[1].tolist() == [[0, 1]]
    assert fitted(0, 1).best_exchange(2)[0].isinf().all()


@pytest.mark.parametrize("each", [1, 2, 4])
def test_columns_that_change_sides_are_fitted_like_all_others(each: int) -> None:
    problem = drawn(0)
    kept = problem.kept(by_wanda(problem), NM(nonzeros=2, group=4))[0]
    rows = FittedRows.of(problem.hessian[0], problem.weight[0], kept)
    draw = torch.Generator().manual_seed(1)
    some = torch.tensor([0, 3, 4, 15])
    for _ in range(10):
        columns = torch.rand(len(some), kept.shape[1], generator=draw).argsort(dim=1)[:, :each]
        change, before = rows.change_by(some, columns), rows.errors()
        rows.toggle(some, columns)
        kept[some] = kept[some].scatter(1, columns, ~kept[some].gather(1, columns))
        assert torch.allclose(rows.errors()[some] - before[some], change)
    assert torch.equal(rows.kept, kept)
    weights = refit(problem, kept[None])
    assert torch.allclose(rows.values * kept, weights[0])
    assert torch.allclose(rows.errors(), problem.errors(weights)[0])
    assert torch.allclose((rows.matrix - FittedRows.of(
        problem.hessian[0], problem.weight[0], kept
    ).matrix), torch.zeros(()).double(), atol=1e-6)  # fmt: skip


def test_an_exchange_gives_what_it_promises() -> None:
    problem = drawn(2)
    kept = problem.kept(problem.weight.abs(), NM(nonzeros=2, group=4))[0]
    rows = FittedRows.of(problem.hessian[0], problem.weight[0], kept)
    every = torch.arange(len(kept))
    change, columns = rows.best_exchange(4)
    assert torch.allclose(change, rows.change_by(every, columns))
    before = rows.errors()
    rows.toggle(every, columns)
    assert torch.allclose(rows.errors() - before, change)
    assert (change < 0).any()


def test_rows_that_are_too_long_are_refused() -> None:
    wide = Layer("fc", "n", "Gemm", "x", "y", "w", (8, 4100), None, transposed=True)
    expected = "fc: 4100 weights per output are more than the 4096 whose matrix {} keeps"
    assert (
        NmDescent().why_not(wide, Level.parse("2:4:int8")).startswith(expected.format("nm_descent"))
    )
    level = Level.parse("block1x4@0.5:int8")
    assert Gqsa().why_not(wide, level).startswith(expected.format("gqsa"))
