"""Which metric judges a job that did not ask for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.errors import DataError
from autosparse.evaluation.metrics import BUILT_IN, Outputs
from autosparse.pipeline.guard_rails import why_no_choice
from autosparse.pipeline.job import Job, prepare_job
from autosparse.pipeline.workspace import open_workspace
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import WIDTH, World, layer_seconds, summed_error

ROWS = np.random.default_rng(0).standard_normal((6, WIDTH)).astype(np.float32)


def prepare(root: Path, *, metric: str | None = None, **arrays: Any) -> Job:
    world = World.make(root, 2, Planted(layer_seconds, summed_error({})))
    np.savez(root / "validation.npz", x=ROWS, **arrays)
    config = world.config(metric=metric, max_drop="0.1")
    with open_workspace(config, resume=False) as workspace:
        return prepare_job(config, workspace, world.engines())


@pytest.mark.parametrize(
    ("arrays", "name"),
    [
        ({}, "kl"),
        ({"labels": np.arange(6) % 4}, "top1"),
        ({"labels": ROWS[:, :4]}, "rmse"),
        ({"x_b": ROWS, "scores": np.arange(6) / 5}, "spearman"),
        ({"x_b": ROWS, "scores": np.arange(6)}, "spearman"),
        ({"x_b": ROWS}, "kl"),
    ],
)
def test_the_data_tell_the_metric(tmp_path: Path, arrays: dict[str, Any], name: str) -> None:
    assert prepare(tmp_path, **arrays).metric.name == name


def test_a_metric_of_pairs_needs_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="spearman compares pairs, and the validation file has no"):
        prepare(tmp_path, metric="spearman", labels=np.arange(6) / 5)


def test_scores_of_pairs_are_no_classes() -> None:
    answers = Outputs({"y": np.eye(3)}, {"y": np.eye(3)})
    data = Dataset({"x": ROWS[:3]}, np.arange(3), {"x": ROWS[:3]})
    assert why_no_choice(answers, data, BUILT_IN["spearman"]).startswith("rows are pairs")
    assert why_no_choice(answers, Dataset(data.inputs, data.labels), BUILT_IN["top1"]) == ""
