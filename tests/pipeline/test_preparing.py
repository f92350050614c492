"""A job on a model in other weights: it computes the same, and the job says what was done."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from autosparse.errors import ConfigError, MeasurementError, ModelError
from autosparse.model_graph.torch_executor import GraphModule, unsupported_operators
from autosparse.pipeline.config import JobConfig, read_config
from autosparse.pipeline.finding_donor import donor_of
from autosparse.pipeline.job import Engines, Job, prepare_job
from autosparse.pipeline.preparing import prepared
from autosparse.pipeline.source_job import FoundJob
from autosparse.pipeline.workspace import open_workspace
from backends import BACKENDS
from tests.fakes.fake_backend import Planted
from tests.fakes.fake_lane import FakeLane
from tests.models import Net, block_with_norm, images, residual_cnn
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
    engines = Engines(BACKENDS.load("onnxruntime"), FakeLane(PLANTED, ()), told)
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


def test_channels_are_ordered_for_the_pattern_of_the_space(tmp_path: Path) -> None:
    residual_cnn().save(tmp_path / "model.onnx", "logits")
    np.savez(tmp_path / "rows.npz", image=images(16))
    found = {}
    for pattern in ("2:4", "1:4"):
        space, told = tmp_path / f"{pattern[0]}.yaml", Notes()
        space.write_text(f"description: one pattern\nlevels: ['{pattern}:int8+alps', dense:int8]\n")
        job = opened(
            tmp_path, told, prepare="permute", space=str(space), output_dir=tmp_path / pattern[0]
        )
        other = prepared(job)
        assert torch.allclose(answers(job), answers(other), rtol=1e-3, atol=1e-5)
        assert any(text.endswith(f"are in an order for {pattern}") for text in told.told)
        found[pattern] = other.graph.weight(other.graph.layer("block2.b"))
    assert not np.array_equal(found["2:4"], found["1:4"])


def test_a_space_without_n_m_wants_no_order(tmp_path: Path) -> None:
    residual_cnn().save(tmp_path / "model.onnx", "logits")
    np.savez(tmp_path / "rows.npz", image=images(16))
    told = Notes()
    job = opened(tmp_path, told, prepare="permute", space="int8")
    weight = prepared(job).graph.weight(job.graph.layer("block2.b"))
    assert np.array_equal(weight, job.graph.weight(job.graph.layer("block2.b")))
    assert "--prepare permute finds nothing to do: the space int8 has no N:M level" in told.told


def test_a_job_in_another_order_lends_no_weights(tmp_path: Path) -> None:
    """Its channels stand elsewhere, though nobody asked for another preparation."""
    residual_cnn().save(tmp_path / "model.onnx", "logits")
    np.savez(tmp_path / "rows.npz", image=images(16))
    job = opened(tmp_path, Notes(), prepare="permute", space="cpu")
    inputs = json.loads((job.workspace.job / "inputs.json").read_bytes())
    config = config_of(tmp_path, prepare="permute", space="int8")
    assert donor_of(cast(FoundJob, SimpleNamespace(inputs=inputs, config=config)), job) is None


def test_smoothing_sees_the_calibration_rows(tmp_path: Path) -> None:
    block_with_norm().save(tmp_path / "model.onnx", "y")
    rows = np.random.default_rng(0).standard_normal((8, 5, 8)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows)
    job = opened(tmp_path, Notes(), prepare=["smooth"])
    other = prepared(job)
    assert torch.allclose(answers(job), answers(other), rtol=1e-3, atol=1e-5)
    scale = other.graph.constant("norm.weight")
    assert not np.array_equal(job.graph.constant("norm.weight"), scale)
    # other rows, other activations, other scales
    np.savez(tmp_path / "rows.npz", x=np.where(np.arange(8) == 3, 9, 1).astype(np.float32) * rows)
    again = prepared(opened(tmp_path, Notes(), prepare=["smooth"], output_dir=tmp_path / "again"))
    assert not np.allclose(again.graph.constant("norm.weight"), scale)


def test_smoothing_needs_no_torch(tmp_path: Path) -> None:
    """It lacks the operator, and nothing was compared with it yet."""
    net = Net(seed=2)
    shrunk = net.node("Shrink", net.input("x", "batch", 5, 8), name="shrink")
    scale, bias = net.weight("norm.weight", 8), net.weight("norm.bias", 8)
    normed = net.node("LayerNormalization", shrunk, scale, bias, name="norm", axis=-1)
    net.node("MatMul", normed, net.weight("q.weight", 8, 8), name="q", to="y")
    net.save(tmp_path / "model.onnx", "y")
    rows = np.random.default_rng(0).standard_normal((8, 5, 8)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows)
    job = opened(tmp_path, Notes(), prepare=["smooth"])
    assert unsupported_operators(job.graph)
    was, now = (one.graph.constant("norm.weight") for one in (job, prepared(job)))
    assert not np.array_equal(was, now)


def test_smoothing_a_model_that_does_not_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object, **named: object) -> None:
        raise MeasurementError("ONNX Runtime failed: no kernel")

    block_with_norm().save(tmp_path / "model.onnx", "y")
    np.savez(tmp_path / "rows.npz", x=np.ones((8, 5, 8), np.float32))
    job = opened(tmp_path, Notes(), prepare=["smooth"])
    monkeypatch.setattr(type(job.backend), "probe", refused)
    with pytest.raises(ModelError, match=r"model.onnx does not run: ONNX Runtime failed"):
        prepared(job)


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
