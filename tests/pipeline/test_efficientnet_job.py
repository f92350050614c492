"""A whole job on an EfficientNet, as both of torch's exporters write it, on the real runtime."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest

import autosparse
from autosparse.artifacts.bundle import check_bundle
from autosparse.evaluation import Verdict
from tests.efficientnet import SIZE, EfficientNet, export
from tests.models import images

pytestmark = [
    # the exporter that most models in the field were made with says so on every call
    pytest.mark.filterwarnings(
        "ignore:You are using the legacy TorchScript-based:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
]


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_an_efficientnet_goes_through_the_whole_job(tmp_path: Path, dynamo: bool) -> None:
    model = export(EfficientNet(), tmp_path / "model.onnx", dynamo=dynamo)
    for seed, role in enumerate(("calibration", "validation")):
        np.savez(tmp_path / f"{role}.npz", image=images(128, seed=seed, shape=(3, SIZE, SIZE)))
    result = autosparse.optimize(
        model,
        calibration=tmp_path / "calibration.npz",
        validation=tmp_path / "validation.npz",
        latency_budget="1000%",
        max_drop=0.5,
        space="int8",
        trials=3,
        output_dir=tmp_path / "out",
    )
    bundle = Path(result.bundle)
    check_bundle(bundle)
    rows = list(csv.DictReader(io.StringIO((bundle / "layers.csv").read_text())))
    assert len(rows) == 13
    assert all(int(row["macs"]) > 0 for row in rows)
    # every layer was made at INT8, depthwise ones and the gates included, or it is said why not
    assert all("dense:int8" in row["level"] + row["not_chosen"] for row in rows)
    assert result.verdict is Verdict.MET
    assert math.isfinite(result.manifest.quality.drop)
    # torch computes what the runtime does, so that the correction of statistics was tried
    assert "no correction of channel statistics" not in (bundle / "report.html").read_text()
