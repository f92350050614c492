"""A real search on the real runtime: one channel that plain INT8 ruins."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import autosparse
from autosparse.cli.digits_cnn import make_demo_files
from autosparse.evaluation import Verdict
from autosparse.levels import Recipe
from autosparse.model_graph import load_model

SCALED, FACTOR = 5, 200.0
BUDGET = "75%"


def with_outlier(source: Path, target: Path) -> tuple[str, str]:
    """Scale one channel of a convolution, undo it in the next: the function stays the same.

    Returns:
        Names of the two layers.
    """
    graph = load_model(source)
    first, second = graph.layers[1], graph.layers[2]
    proto = onnx.load(str(source))
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name in (first.weight, first.bias):
            values[SCALED] *= FACTOR
        elif tensor.name == second.weight:
            values[:, SCALED] /= FACTOR
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(proto, str(target))
    return first.name, second.name


@pytest.mark.slow
def test_the_right_layers_stay_in_fp32(tmp_path: Path) -> None:
    files = make_demo_files(tmp_path / "model")
    normalized = tmp_path / "folded.onnx"
    # the file of intake: batch norms are folded, so that a channel can be scaled in the weights
    ir.save(load_model(files.model).copy_model(), normalized)
    model = tmp_path / "outlier.onnx"
    first, second = with_outlier(normalized, model)
    result = autosparse.optimize(
        model,
        calibration=files.calibration,
        validation=files.validation,
        latency_budget=BUDGET,
        max_drop="1pt",
        trials=20,
        output_dir=tmp_path / "out",
    )
    assert result.verdict is Verdict.MET
    # the budget leaves all-fp32 out, and the ruined tensor has to stay in floating point
    assert result.manifest.latency.ratio <= 0.75
    recipe = Recipe.load(Path(result.bundle) / "recipe.yaml")
    assert recipe.levels[first].is_baseline
    assert recipe.levels[second].is_baseline
    assert recipe.compressed_layers
    assert result.manifest.quality.drop <= 0.01
