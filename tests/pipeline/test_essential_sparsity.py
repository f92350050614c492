"""The knee: zeros that magnitude alone can make before the answers move away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.model_graph import load_model
from autosparse.pipeline import essential_sparsity as knees
from autosparse.pipeline.essential_sparsity import essential_sparsity, knee
from tests.models import Net, class_answering


def test_a_knee_by_hand() -> None:
    """Two thirds of the way at a tenth of the height: farthest below the chord."""
    assert knee((0.3, 0.6, 0.9), (0.05, 0.1, 1.0)) == 0.6
    assert knee((0.3, 0.6, 0.9), (0.9, 0.95, 1.0)) == 0.0
    assert knee((0.3, 0.6, 0.9), (0.0, 0.0, 0.0)) == 0.0
    assert knee((0.3, 0.6, 0.9), (0.0, float("nan"), 1.0)) == 0.0
    # what falls again is no way back
    assert knee((0.3, 0.6, 0.9), (0.8, 0.1, 1.0)) == 0.0


def test_a_model_that_answers_with_classes_has_no_knee(tmp_path: Path) -> None:
    graph = load_model(class_answering(tmp_path / "net.onnx"))
    assert essential_sparsity(graph, Dataset({"x": np.ones((5, 4), np.float32)}), 2) == 0.0


@pytest.mark.checks("knee of essential sparsity")
@pytest.mark.parametrize(("seed", "enough"), [(0, 1 << 28), (1, 1 << 28), (2, 1)])
def test_a_planted_share_of_small_weights_is_found_on_any_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, enough: int
) -> None:
    """Six weights in ten are next to nothing; of large answers, the first ones tell it."""
    monkeypatch.setattr(knees, "_ENOUGH_BYTES", enough)
    net = Net(seed=5)
    value = net.input("x", "batch", 40)
    for index in range(2):
        weight = net.rng.standard_normal((40, 40))
        small = net.rng.permutation(1600).reshape(40, 40) < 960
        weight = np.where(small, 1e-3 * weight, np.sign(weight) * (1 + np.abs(weight)))
        value = net.node("Gemm", value, net.constant(f"w{index}", weight.astype(np.float32)),
                         name=f"fc{index}", to="y" if index else "")  # fmt: skip
    graph = load_model(net.save(tmp_path / "net.onnx", "y"))
    rows = np.random.default_rng(seed).standard_normal((50, 40)).astype(np.float32)
    assert essential_sparsity(graph, Dataset({"x": rows}), 32) == pytest.approx(0.6)
