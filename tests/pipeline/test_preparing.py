"""A job on a model in other weights: it computes the same, and the job says what was done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autosparse.errors import ConfigError
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.pipeline.config import JobConfig, read_config
from autosparse.pipeline.job import Engines, Job, prepare_job
from autosparse.pipeline.preparing import prepared
from autosparse.pipeline.workspace import open_workspace
from tests.fakes.fake_backend import FakeBackend, Planted
from tests.fakes.fake_lane import FakeLane
from tests.model_graph.test_channel_pairs import transformer_block
from tests.models import images, residual_cnn
from tests.pipeline.sparse_world import Notes

PLANTED = Planted(lambda name, level: 1e-4, lambda levels: 0.0)


def config_of(root: Path, **fields: Any) -> JobConfig:
    given: dict[str, Any] = {
        "model": root / "model.onnx", "calibration": root / "rows.npz",
        "validation": root / "rows.npz", "latency_budget": "100%", "max_drop": "0.001",
        "output_dir": root / "out",
    }  # fmt: skip
    return read_config({**given, **fields})


def opened(root: Path, told: Notes, **fields: Any) -> Job:
    config = config_of(root, **fields)
    engines = Engines(FakeBackend(PLANTED), FakeLane(PLANTED, ()), told)
    with open_workspace(config, resume=False) as workspace:
        return prepare_job(config, workspace, engines)


def answers(job: Job) -> torch.Tensor:
    with torch.no_grad():
        inputs = {name: torch.tensor(array) for name, array in job.calibration.inputs.items()}
        outputs: dict[str, torch.Tensor] = GraphModule.from_graph(job.graph)(inputs)
    return next(iter(outputs.values()))


def test_a_prepared_job_computes_the_same_and_says_what_was_done(tmp_path: Path) -> None:
    residual_cnn().save(tmp_path / "model.onnx", "logits")
    np.savez(tmp_path / "rows.npz", image=images(16))
    told = Notes()
    job = opened(tmp_path, told, prepare="equalize,permute,smooth")
    other = prepared(job)
    assert torch.allclose(answers(job), answers(other), rtol=1e-3, atol=1e-5)
    name = "block2.a"
    was, now = (found.graph.weight(found.graph.layer(name)) for found in (job, other))
    assert not np.array_equal(was, now)
    assert not np.array_equal(np.sort(was, axis=None), np.sort(now, axis=None))
    assert any(text.startswith("--prepare equalize: the channels of 2 of 2") for text in told.told)
    assert any("--prepare smooth finds nothing to do" in text for text in told.told)


def test_smoothing_sees_the_calibration_rows(tmp_path: Path) -> None:
    transformer_block(tmp_path)
    (tmp_path / "block.onnx").rename(tmp_path / "model.onnx")
    rows = np.random.default_rng(0).standard_normal((8, 5, 8)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows)
    job = opened(tmp_path, Notes(), prepare=["smooth"])
    other = prepared(job)
    assert torch.allclose(answers(job), answers(other), rtol=1e-3, atol=1e-5)
    assert not np.array_equal(
        job.graph.constant("norm.weight"), other.graph.constant("norm.weight")
    )


def test_nothing_is_prepared_that_is_not_asked_for(tmp_path: Path) -> None:
    residual_cnn().save(tmp_path / "model.onnx", "logits")
    np.savez(tmp_path / "rows.npz", image=images(16))
    job = opened(tmp_path, Notes())
    other = prepared(job)
    was, now = (found.graph.weight(found.graph.layer("block1.a")) for found in (job, other))
    assert np.array_equal(was, now)


def test_an_unknown_preparation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--prepare"):
        config_of(tmp_path, prepare="polish")
