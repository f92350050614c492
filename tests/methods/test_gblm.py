from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from autosparse.calibration import LayerStatistics
from autosparse.errors import AutoSparseError
from autosparse.levels import Level
from autosparse.methods.gblm import Gblm, gblm_scores
from autosparse.model_graph import Layer

WEIGHT = torch.tensor([[1.0, -2.0, 3.0, -4.0], [4.0, 3.0, -2.0, 1.0]])
LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)
STATISTICS = LayerStatistics(
    rows=1,
    input_norms=np.ones((1, 4), dtype=np.float32),
    gradient_norms=np.array([[0, 4, 0, 0], [0, 0, 0, 4]], dtype=np.float32),
)


def test_scores_by_hand() -> None:
    # norms of inputs have a mean of 2, those of gradients of 1
    scores = gblm_scores(
        WEIGHT,
        torch.tensor([[4.0, 2.0, 2.0, 0.0]]),
        torch.tensor([[0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 4.0]]),
    )
    assert scores.tolist() == [[2, 2 * (1 + 4), 3, 0], [8, 3, 2, 4]]


@pytest.mark.checks("gblm")
def test_a_small_weight_that_moves_the_outputs_stays() -> None:
    made = Gblm().compress(LAYER, WEIGHT, Level.parse("2:4:fp32"), STATISTICS)
    # by size, and by size times input norm, the 3 of each row would stay
    assert made.values.tolist() == [[0, -2, 0, -4], [4, 0, 0, 1]]


def test_the_units_of_gradients_do_not_matter() -> None:
    assert STATISTICS.gradient_norms is not None
    other = replace(STATISTICS, gradient_norms=1e-6 * STATISTICS.gradient_norms)
    level = Level.parse("unstructured@0.5:fp32")
    first, second = (Gblm().compress(LAYER, WEIGHT, level, s).values for s in (STATISTICS, other))
    assert np.array_equal(first, second)


def test_without_gradients_it_stops() -> None:
    with pytest.raises(AutoSparseError, match="fc: its statistics hold no gradient norms"):
        Gblm().compress(
            LAYER, WEIGHT, Level.parse("2:4:fp32"), replace(STATISTICS, gradient_norms=None)
        )
