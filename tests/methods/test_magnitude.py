from __future__ import annotations

import numpy as np
import pytest
import torch

from autosparse.calibration import NO_STATISTICS
from autosparse.levels import Level
from autosparse.methods.magnitude import Magnitude, magnitude_scores
from autosparse.model_graph import Layer

WEIGHT = torch.tensor([[1.0, -2.0, 3.0, -4.0], [0.5, 0.0, -6.0, 5.0]])
LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (2, 4), None, transposed=True)


def test_a_weight_scores_by_its_size() -> None:
    expected = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, 0.0, 6.0, 5.0]])
    assert torch.equal(magnitude_scores(WEIGHT), expected)


@pytest.mark.checks("magnitude")
def test_the_smallest_of_the_layer_become_zero() -> None:
    made = Magnitude().compress(LAYER, WEIGHT, Level.parse("unstructured@0.5:fp32"), NO_STATISTICS)
    assert made.values.tolist() == [[0, 0, 3, -4], [0, 0, -6, 5]]


def test_integers_are_rounded_after_the_zeros_are_chosen() -> None:
    made = Magnitude().compress(LAYER, WEIGHT, Level.parse("2:4:int8"), NO_STATISTICS)
    assert made.integers is not None
    assert made.scales is not None
    assert made.integers.tolist() == [[0, 0, 95, -127], [0, 0, -127, 106]]
    assert np.array_equal(made.values, made.integers * made.scales[:, None])


def test_a_dense_level_is_refused() -> None:
    why = Magnitude().why_not(LAYER, Level.parse("dense:int8"))
    assert why == "fc: magnitude makes zeros, dense:int8 has none"
