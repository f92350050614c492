from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from autosparse.calibration import NO_STATISTICS
from autosparse.errors import AutoSparseError, CandidateError
from autosparse.levels import NM, Level, Unstructured
from autosparse.methods.admm import Splitting
from autosparse.methods.alps import Alps, chosen_support
from autosparse.methods.kept_weights import refit, refit_on_grid
from autosparse.methods.layer_problem import LayerProblem, positive_definite
from autosparse.model_graph import Layer

# two pairs of inputs, each pair correlated by one half
PAIRS = torch.tensor([[[1.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1]]]).double()
WEIGHT = torch.tensor([[[2.0, 5.0, 3.0, 1.0], [-2.5, 1.0, 1.0, 2.0]]]).double()
PROBLEM = LayerProblem(WEIGHT, PAIRS)
KEPT = torch.tensor([[[False, True, True, False], [True, False, False, True]]])
LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)


def test_the_support_by_hand() -> None:
    # removing 2 of the first pair costs 3, removing 5 costs 18.75, and both 39; removing 1 of
    # the second 0.75, and 3 costs 6.75: so 5 and 3 stay, though 2 is larger than 1
    assert torch.equal(chosen_support(PROBLEM, NM(nonzeros=2, group=4)), KEPT)


def test_kept_weights_by_hand() -> None:
    # each takes over half of its removed twin, on whichever side that is; a sweep from the left
    # cannot give the 3 the half of the 1 that goes after it
    expected = torch.tensor([[[0.0, 6.0, 3.5, 0.0], [-2.0, 0.0, 0.0, 2.5]]]).double()
    assert torch.allclose(refit(PROBLEM, KEPT), expected)


def test_rounding_by_hand() -> None:
    # 2.4 becomes 2, and half of the 0.4 lifts 5.4 over the border
    problem = LayerProblem(torch.tensor([[[2.4, 5.4, 0.0, 3.0]]]).double(), PAIRS)
    kept = torch.tensor([[[True, True, False, False]]])
    rounded, _ = refit_on_grid(problem, kept, scales=lambda rows: torch.ones(len(rows)))
    assert rounded.tolist() == [[[2, 6, 0, 0]]]


def test_a_row_that_keeps_nothing_is_zero() -> None:
    kept = KEPT & torch.tensor([[[True], [False]]])
    assert refit(PROBLEM, kept)[0].tolist() == [[0, 6, 3.5, 0], [0, 0, 0, 0]]
    rounded, _ = refit_on_grid(PROBLEM, kept, scales=lambda rows: torch.ones(len(rows)))
    assert not rounded[0, 1].any()


def test_no_other_weights_on_the_support_do_better() -> None:
    draw = torch.Generator().manual_seed(0)
    fitted = refit(PROBLEM, KEPT)
    for _ in range(20):
        other = fitted + 0.1 * torch.randn(fitted.shape, generator=draw) * KEPT
        assert (PROBLEM.errors(other) > PROBLEM.errors(fitted)).all()


def test_a_step_minimizes_what_it_says() -> None:
    splitting = Splitting.of(PROBLEM)
    centre = torch.ones(1, 2, 4, dtype=torch.float64)
    point = splitting.nearest(centre, penalty=0.3)
    # the gradient of both terms is zero there; the diagonal is one, so nothing is scaled
    gradient = (point - WEIGHT) @ PAIRS + 0.3 * (point - centre)
    assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-12)


@pytest.mark.checks("alps")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    "pattern", ["unstructured@0.5", "unstructured@0.8", "2:4", "block1x4@0.5", "block2x4@0.5"]
)
def test_it_loses_clearly_less_than_sparsegpt(
    output_error: Callable[[str, str], float], pattern: str, precision: str
) -> None:
    level = f"{pattern}:{precision}"
    assert output_error("alps", level) < 0.9 * output_error("sparsegpt", level)


def test_without_a_hessian_it_stops() -> None:
    level = Level.parse("2:4:fp32")
    with pytest.raises(AutoSparseError, match="fc: its statistics hold no Hessian"):
        Alps().compress(LAYER, WEIGHT[0].float(), level, NO_STATISTICS)


def test_inputs_that_are_all_zero_leave_the_choice_to_the_weights() -> None:
    problem = LayerProblem(WEIGHT, positive_definite(torch.zeros(1, 4, 4)))
    kept = chosen_support(problem, Unstructured(sparsity=0.5))
    assert kept[0].tolist() == [[True, True, True, False], [True, False, False, False]]
    assert torch.allclose(refit(problem, kept), WEIGHT * kept)


def test_a_hessian_that_is_no_matrix_of_squares_is_a_failed_candidate() -> None:
    with pytest.raises(CandidateError, match="not positive definite"):
        positive_definite(torch.tensor([[[1.0, 5.0], [5.0, 1.0]]]))
