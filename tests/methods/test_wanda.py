from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from autosparse.calibration import NO_STATISTICS, LayerStatistics
from autosparse.errors import AutoSparseError
from autosparse.levels import Level
from autosparse.levels.masks import project
from autosparse.levels.pattern import Unstructured
from autosparse.methods.wanda import Wanda, compare_within_rows, wanda_scores
from autosparse.model_graph import Layer

WEIGHT = torch.tensor([[1.0, -2.0, 3.0, -4.0], [4.0, 3.0, -2.0, 1.0]])
LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)
STATISTICS = LayerStatistics(rows=1, input_norms=np.array([[4, 3, 1, 0]], dtype=np.float32))


def test_a_weight_scores_by_what_it_multiplies() -> None:
    scores = wanda_scores(WEIGHT, torch.tensor([[4.0, 3.0, 1.0, 0.0]]))
    assert scores.tolist() == [[4, 6, 3, 0], [16, 9, 2, 0]]


def test_each_group_has_its_own_norms() -> None:
    norms = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    assert wanda_scores(WEIGHT, norms).tolist() == [[1, 2, 3, 4], [0, 3, 4, 3]]


def test_rows_are_compared_with_themselves() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])
    half = project(compare_within_rows(scores), Unstructured(sparsity=0.5))
    assert half.tolist() == [[False, False, True, True]] * 2
    # five stay: two of each row, and the better of the third best ones
    five = project(compare_within_rows(scores), Unstructured(sparsity=0.375))
    assert five.tolist() == [[False, False, True, True], [False, True, True, True]]


def test_a_row_of_large_weights_keeps_no_more_than_its_share() -> None:
    weight = WEIGHT * torch.tensor([[1.0], [100.0]])
    made = Wanda().compress(LAYER, weight, Level.parse("unstructured@0.5:fp32"), STATISTICS)
    assert made.values.tolist() == [[1, -2, 0, 0], [400, 300, 0, 0]]


def test_ties_are_kept_in_column_order() -> None:
    kept = project(compare_within_rows(torch.ones(2, 4)), Unstructured(sparsity=0.5))
    assert kept.tolist() == [[True, True, False, False]] * 2


@pytest.mark.checks("wanda")
@pytest.mark.parametrize("level", ["unstructured@0.5:fp32", "2:4:fp32", "block1x2@0.5:fp32"])
def test_a_large_weight_on_a_silent_input_goes_first(level: str) -> None:
    made = Wanda().compress(LAYER, WEIGHT, Level.parse(level), STATISTICS)
    # magnitude keeps the -4 on the silent input
    assert made.values.tolist() == [[1, -2, 0, 0], [4, 3, 0, 0]]


@pytest.mark.parametrize("level", ["unstructured@0.5:fp32", "2:4:fp32", "block1x4@0.5:fp32"])
def test_it_loses_less_than_magnitude(
    output_error: Callable[[str, str], float], level: str
) -> None:
    assert output_error("wanda", level) < output_error("magnitude", level)


def test_without_norms_it_stops() -> None:
    with pytest.raises(AutoSparseError, match="fc: its statistics hold no input norms"):
        Wanda().compress(LAYER, WEIGHT, Level.parse("2:4:fp32"), NO_STATISTICS)
