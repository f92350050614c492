from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from autosparse.calibration import NO_STATISTICS, LayerStatistics
from autosparse.errors import AutoSparseError, CandidateError
from autosparse.levels.pattern import Block, Dense, Pattern, Unstructured, parse_pattern
from autosparse.methods.column_sweep import factor_of, inverse_factor, removal_costs, sweep
from autosparse.model_graph import Layer

# two pairs of inputs, each pair correlated by one half
PAIRS = torch.tensor([[[1.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1]]])
LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)


def random_hessian(groups: int, columns: int, rows: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(groups, rows, columns, generator=draw, dtype=torch.float64)
    mixing = torch.randn(groups, columns, columns, generator=draw, dtype=torch.float64)
    inputs = inputs @ mixing
    return inputs.transpose(1, 2) @ inputs / rows


def test_the_factor_by_hand() -> None:
    # the inverse of [[1, 1/2], [1/2, 1]] is [[4/3, -2/3], [-2/3, 4/3]] = U^T U with
    # U = [[2/sqrt(3), -1/sqrt(3)], [0, 1]]
    corner = [[2 / 3**0.5, -1 / 3**0.5], [0, 1]]
    factor = inverse_factor(PAIRS, damping=0.0)[0]
    assert torch.allclose(factor, torch.kron(torch.eye(2), torch.tensor(corner)).double())


def test_the_factor_gives_the_inverse() -> None:
    hessian = random_hessian(groups=3, columns=20, rows=60)
    factor = inverse_factor(hessian, damping=0.0)
    assert torch.equal(factor, factor.triu())
    assert torch.allclose(factor.transpose(1, 2) @ factor, torch.linalg.inv(hessian))


def test_the_hessian_is_not_changed() -> None:
    hessian = random_hessian(groups=1, columns=4, rows=8)
    before = hessian.clone()
    inverse_factor(hessian)
    assert torch.equal(hessian, before)


@pytest.mark.parametrize(
    "hessian",
    [
        pytest.param(random_hessian(2, 30, rows=4), id="fewer rows than columns"),
        pytest.param(torch.diag(torch.tensor([1.0, 0.0, 2.0]))[None], id="dead input"),
        pytest.param(torch.zeros(2, 3, 3), id="all inputs dead"),
        pytest.param(torch.stack([torch.eye(3), torch.zeros(3, 3)]), id="one dead group"),
        pytest.param(torch.ones(1, 5, 5) * 1e-30, id="tiny and all the same"),
        pytest.param(torch.tensor([[[1.0, 1.05], [1.05, 1.0]]]), id="indefinite: damped further"),
    ],
)
def test_a_poor_hessian_still_has_a_factor(hessian: Tensor) -> None:
    factor = inverse_factor(hessian)
    assert torch.isfinite(factor).all()
    assert (torch.diagonal(factor, dim1=1, dim2=2) > 0).all()


@pytest.mark.parametrize("bad", [torch.full((1, 2, 2), torch.nan), -torch.eye(2)[None]])
def test_what_no_damping_repairs_is_a_failed_candidate(bad: Tensor) -> None:
    with pytest.raises(CandidateError, match=r"^fc: the Hessian .* not positive definite"):
        factor_of(LAYER, LayerStatistics(rows=1, hessian=bad.numpy()))


def test_without_a_hessian_it_stops() -> None:
    with pytest.raises(AutoSparseError, match="fc: its statistics hold no Hessian"):
        factor_of(LAYER, NO_STATISTICS)


def test_what_a_removal_costs_by_hand() -> None:
    weight = torch.tensor([[[2.0, 5.0, 3.0, 1.0]]]).double()
    factor = inverse_factor(PAIRS, damping=0.0)
    # a pair's second input could make up for a quarter of its first one's square
    single = removal_costs(weight, factor, width=1)
    assert torch.allclose(single, torch.tensor([[[3.0, 25.0, 6.75, 1.0]]]).double())
    # a whole pair costs w H w: 4 + 25 + 10 and 9 + 1 + 3
    pairs = removal_costs(weight, factor, width=2)
    assert pairs.reshape(2, 2).sum(dim=1).tolist() == pytest.approx([39.0, 13.0])


def settle_one_by_one(
    weight: Tensor, hessian: Tensor, goal: Callable[[int, Tensor], Tensor]
) -> Tensor:
    """The sweep as the papers derive it: a fresh inverse for every column, no blocks."""
    rest = weight.clone()
    for column in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian[column:, column:])
        settled = goal(column, rest[:, column])
        rest[:, column:] -= ((rest[:, column] - settled) / inverse[0, 0])[:, None] * inverse[0]
        rest[:, column] = settled
    return rest


def test_blocks_of_columns_change_nothing_but_the_speed() -> None:
    columns = 150  # the sweep settles 128 at a time
    hessian = random_hessian(1, columns, rows=300)
    weight = 20 * torch.randn(3, columns, generator=torch.Generator().manual_seed(1)).double()
    factor = inverse_factor(hessian, damping=0.0)
    expected = settle_one_by_one(weight, hessian[0], lambda _, current: current.round())
    assert torch.equal(sweep(weight, factor, Dense(), torch.ones(3)), expected)


def test_kept_weights_make_up_for_removed_ones() -> None:
    hessian = random_hessian(1, 16, rows=64)
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(2)).double()
    swept = sweep(weight, inverse_factor(hessian, damping=0.0), Unstructured(sparsity=0.5))
    expected = settle_one_by_one(
        weight, hessian[0], lambda column, current: current.where(swept[:, column] != 0, 0.0)
    )
    assert torch.allclose(swept, expected)


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "dense"])
def test_groups_are_swept_as_if_alone(pattern: str) -> None:
    shape = parse_pattern(pattern)
    hessian = random_hessian(groups=3, columns=8, rows=40)
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(3)).double()
    factor = inverse_factor(hessian)
    together = sweep(weight, factor, shape)
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        alone = sweep(weight[rows], factor[group : group + 1], shape)
        assert torch.allclose(together[rows], alone)


@pytest.mark.parametrize(
    "pattern",
    [Unstructured(sparsity=0.7), Block(rows=1, columns=4, sparsity=0.7), parse_pattern("2:4")],
    ids=str,
)
@pytest.mark.parametrize("scale", [None, 0.05])
def test_the_layer_has_the_zeros_that_were_asked_for(pattern: Pattern, scale: float | None) -> None:
    columns = 300  # blocks of 128, 128 and 44: their shares of zeros must add up
    hessian = random_hessian(1, columns, rows=100)
    weight = torch.randn(10, columns, generator=torch.Generator().manual_seed(4))
    scales = None if scale is None else torch.full((10,), scale)
    settled = sweep(weight, inverse_factor(hessian), pattern, scales)
    zeros = int((settled == 0).sum())
    assert zeros >= round(pattern.sparsity * weight.numel())
    if scales is None:
        assert zeros == round(pattern.sparsity * weight.numel())
    else:
        steps = (settled / scales.double()[:, None]).numpy()
        assert np.abs(steps - np.round(steps)).max() < 1e-9
        assert np.abs(steps).max() <= 127.0000001


def test_columns_that_matter_less_get_more_of_the_zeros() -> None:
    weight = torch.ones(3, 256)
    weight[:, :128] = 0.1  # the first of two blocks of columns
    settled = sweep(weight, inverse_factor(torch.eye(256)[None]), Unstructured(sparsity=0.5))
    assert torch.equal(settled != 0, weight == 1.0)


@pytest.mark.parametrize("pattern", ["unstructured@0.5", "2:4", "block2x4@0.5"])
def test_a_weight_of_zeros_stays_zero(pattern: str) -> None:
    factor = inverse_factor(random_hessian(1, 8, rows=4))
    assert sweep(torch.zeros(4, 8), factor, parse_pattern(pattern)).count_nonzero() == 0


def test_dead_inputs_go_first_and_a_kept_one_stays_as_it_is() -> None:
    hessian = random_hessian(1, 8, rows=40)
    hessian[0, :, :4] = 0
    hessian[0, :4, :] = 0
    weight = torch.tensor([[1.1, 1.2, 1.3, 1.4, 1.0, 1.0, 1.0, 1.0]]).double()
    settled = sweep(weight, inverse_factor(hessian), Unstructured(sparsity=0.375))
    assert settled[0, :4].tolist() == pytest.approx([0, 0, 0, 1.4])
    assert settled[0, 4:].count_nonzero() == 4
