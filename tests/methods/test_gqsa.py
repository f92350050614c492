from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from autosparse.levels import NM, Block, Level
from autosparse.levels.integer_grid import channel_scales
from autosparse.methods.gqsa import Gqsa, chosen_blocks, exchanged, saliency
from autosparse.methods.grid_descent import best_steps, descended_on_grid
from autosparse.methods.kept_weights import refit
from autosparse.methods.layer_problem import LayerProblem
from autosparse.model_graph import Layer
from tests.methods.random_layers import by_wanda, drawn, ratio_interval

LARGEST_INT4 = 7
# two pairs of inputs, each pair correlated by one half
PAIRS = torch.tensor([[[1.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1]]]).double()
WEIGHT = torch.tensor([[[3.0, -3.0, 1.0, 3.0], [0.5, 0.0, 4.0, 4.0]]]).double()
PROBLEM = LayerProblem(WEIGHT, PAIRS)
OF_TWO = Block(rows=1, columns=2, sparsity=0.5)
OF_FOUR = Block(rows=1, columns=4, sparsity=0.5)
TWO_OF_FOUR = NM(nonzeros=2, group=4)


def blocks_by_gqsa(problem: LayerProblem) -> float:
    return problem.error(refit(problem, chosen_blocks(problem, OF_FOUR)))


def blocks_by_size(problem: LayerProblem) -> float:
    """Magnitude's blocks, with the best weights in them."""
    return problem.error(refit(problem, problem.kept(problem.weight.abs(), OF_FOUR)))


def by_rounding(problem: LayerProblem, *, in_turns: bool) -> float:
    """What a grid of 4 bits adds to the error of the best weights in some blocks."""
    best = refit(problem, problem.kept(by_wanda(problem), OF_FOUR))
    steps = channel_scales(best[0].float(), LARGEST_INT4).double()[None]
    integers = (best / steps[..., None]).round()
    if in_turns:
        integers, steps = descended_on_grid(problem, integers, steps, LARGEST_INT4)
    assert integers.abs().max() <= LARGEST_INT4
    return problem.error(integers * steps[..., None]) - problem.error(best)


def with_two_bits(problem: LayerProblem) -> float:
    """Every weight, rounded to the nearest of four values, evenly spaced over 16 neighbours."""
    runs = problem.weight.reshape(1, len(problem.weight[0]), -1, 16)
    low, high = runs.amin(dim=-1, keepdim=True), runs.amax(dim=-1, keepdim=True)
    steps = (high - low) / 3
    return problem.error((low + ((runs - low) / steps).round() * steps).flatten(2))


def test_saliency_by_hand() -> None:
    # pairs cost 9 + 9 - 9 and 1 + 9 + 3, 0.25 and 16 + 16 + 16; half of it each weight's
    expected = [[4.5, 4.5, 6.5, 6.5], [0.125, 0.125, 24.0, 24.0]]
    assert torch.allclose(saliency(PROBLEM, OF_TWO)[0], torch.tensor(expected).double())


def test_blocks_by_hand() -> None:
    # one by one, the first pair would look dearer than the second: 9 + 9 against 1 + 9
    expected = torch.tensor([[[False, False, True, True], [False, False, True, True]]])
    assert torch.equal(chosen_blocks(PROBLEM, OF_TWO), expected)


@pytest.mark.parametrize("rows", [1, 2])
def test_blocks_are_exchanged_between_rows_by_hand(rows: int) -> None:
    # the upper row gives its cheapest pair, of 9, for the dearest of the lower one, of 48; with
    # blocks two rows high, there are two such rows above and two below
    weight = WEIGHT.repeat_interleave(rows, dim=1)
    start = torch.zeros_like(weight, dtype=torch.bool)
    start[:, :rows] = True
    pattern = Block(rows=rows, columns=2, sparsity=0.5)
    kept = exchanged(LayerProblem(weight, PAIRS), start, pattern)
    expected = torch.tensor([[False, False, True, True]]).expand(2 * rows, -1)
    assert torch.equal(kept[0], expected)


def test_blocks_are_exchanged_within_a_row_by_hand() -> None:
    problem = LayerProblem(WEIGHT[:, :1], PAIRS)
    start = torch.tensor([[[True, True, False, False]]])
    assert exchanged(problem, start, OF_TWO).tolist() == [[[False, False, True, True]]]
    assert start.tolist() == [[[True, True, False, False]]]


def test_no_exchange_raises_the_error() -> None:
    for seed in range(3):
        problem = drawn(seed)
        for scores in (by_wanda(problem), problem.weight):
            start = problem.kept(scores, OF_FOUR)
            kept = exchanged(problem, start, OF_FOUR)
            before, after = (problem.error(refit(problem, mask)) for mask in (start, kept))
            assert after < before
            assert kept.sum() == start.sum()
            assert (kept.reshape(-1, 4).sum(dim=1) % 4 == 0).all()


def test_the_best_step_by_hand() -> None:
    # uncorrelated: (3 x 2 + 1 x 1) / (2 x 2 + 1 x 1); a row that would want a negative step, and
    # one of zeros, keep theirs
    weight = torch.tensor([[[3.0, 1.0], [-1.0, 0.0], [1.0, 1.0]]]).double()
    integers = torch.tensor([[[2.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]).double()
    problem = LayerProblem(weight, torch.eye(2).double()[None])
    steps = best_steps(problem, integers, torch.full((1, 3), 0.5).double())
    assert steps[0].tolist() == pytest.approx([1.4, 0.5, 0.5])


def test_integers_and_steps_in_turns_by_hand() -> None:
    # steps of 1: 2.4 is 2, and half of the 0.4 lifts the 5.4 over the border to 6
    problem = LayerProblem(torch.tensor([[[2.4, 5.4, 0.0, 3.0]]]).double(), PAIRS)
    start = torch.tensor([[[2.0, 5.0, 0.0, 0.0]]]).double()
    integers, steps = descended_on_grid(problem, start, torch.ones(1, 1).double())
    before = problem.error(start)
    assert problem.error(integers * steps[..., None]) < before
    assert integers[0, 0, 2:].tolist() == [0, 0]


@pytest.mark.checks("gqsa")
def test_it_chooses_better_blocks_than_magnitude() -> None:
    """With the best weights in the blocks of both."""
    _, high = ratio_interval(blocks_by_gqsa, blocks_by_size)
    assert high < 0.5


@pytest.mark.checks("gqsa")
def test_integers_and_steps_in_turns_lose_far_less_than_rounding_to_nearest() -> None:
    """On a grid of 4 bits, where rounding costs something, beyond what the zeros cost."""
    _, high = ratio_interval(
        lambda problem: by_rounding(problem, in_turns=True),
        lambda problem: by_rounding(problem, in_turns=False),
    )
    assert high < 0.75


@pytest.mark.checks("gqsa")
def test_half_of_the_blocks_lose_less_than_2_of_4_by_wanda_and_less_than_2_bits() -> None:
    _, high = ratio_interval(
        blocks_by_gqsa,
        lambda problem: problem.error(
            problem.weight * problem.kept(by_wanda(problem), TWO_OF_FOUR)
        ),
    )
    assert high < 1.0
    _, high = ratio_interval(blocks_by_gqsa, with_two_bits)
    assert high < 1.0


@pytest.mark.parametrize("level", ["block1x4@0.5:int8", "block1x4@0.75:int8"])
def test_it_loses_about_as_much_as_alps(
    output_error: Callable[[str, str], float], level: str
) -> None:
    found = output_error("gqsa", level)
    assert found < 1.05 * output_error("alps", level)
    assert found < 0.5 * output_error("wanda", level)


def test_levels_of_other_methods_are_refused() -> None:
    layer = Layer("fc", "n", "Gemm", "x", "y", "w", (4, 4), None, transposed=True)
    for level in ("block1x4@0.5:fp32", "2:4:int8"):
        reason = Gqsa().why_not(layer, Level.parse(level))
        assert reason == f"fc: gqsa makes blocks in int8 only, not {level}"
    grouped = Layer("conv", "n", "Conv", "x", "y", "w", (6, 4, 1, 1), None, groups=2)
    reason = Gqsa().why_not(grouped, Level.parse("block2x4@0.5:int8"))
    assert reason == "conv: 3 outputs of a group are no multiple of 2"
