"""A space's bound on zeros, from its file to the choices of each layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from autosparse.cli import main
from autosparse.errors import ConfigError
from autosparse.evaluation import Target
from autosparse.model_graph import ModelGraph, load_model
from autosparse.pipeline.config import read_config
from autosparse.pipeline.job_choices import job_choices
from autosparse.pipeline.layer_choices import Choice
from backends import BACKENDS
from search_spaces import load_space
from tests.models import Net

HALF, MOST = "unstructured@0.5:fp32+magnitude", "unstructured@0.9:fp32+magnitude"


def two_layers(path: Path) -> ModelGraph:
    """One layer with equal magnitudes, one with a few large weights among tiny ones."""
    net = Net()
    value = net.input("x", "batch", 64)
    signs = np.sign(net.rng.standard_normal((64, 64))).astype(np.float32)
    spiky = np.where(net.rng.random((64, 64)) < 0.05, signs, 1e-4 * signs).astype(np.float32)
    for name, weight in (("flat", signs), ("spiky", spiky)):
        value = net.node("Gemm", value, net.constant(f"{name}.weight", weight))
    return load_model(net.save(path / "model.onnx", value))


def choices(
    path: Path, graph: ModelGraph, bound: dict[str, object] | None, **wishes: object
) -> dict[str, Choice]:
    space = {"description": "x", "levels": [HALF, MOST], "bound": bound}
    (path / "space.yaml").write_text(yaml.safe_dump(space))
    config = read_config(
        {
            "model": path / "model.onnx", "calibration": "c.npz", "validation": "v.npz",
            "latency_budget": "60%", "space": str(path / "space.yaml"), **wishes,
        }
    )  # fmt: skip
    target = Target().for_model(graph)
    found = job_choices(graph, config, BACKENDS.load("onnxruntime"), target)
    return {f"{c.layer.name} {c.level}": c for c in found}


@pytest.mark.parametrize("measure", ["pq_index", "knee"])
def test_what_the_weights_do_not_bear_is_refused(tmp_path: Path, measure: str) -> None:
    graph = two_layers(tmp_path)
    free = choices(tmp_path, graph, None)
    bounded = choices(tmp_path, graph, {"measure": measure})
    assert [name for name in free if bounded[name] != free[name]] == [f"flat {MOST}"]
    refused = bounded[f"flat {MOST}"]
    assert not refused.searched
    assert not refused.runs
    assert refused.reason.startswith("flat: the space bounds its zeros at 75.0%, ")


def test_a_kept_level_is_not_bounded(tmp_path: Path) -> None:
    bound = {"measure": "pq_index", "slack": 0.0}
    found = choices(tmp_path, two_layers(tmp_path), bound, keep=f"flat={MOST}")
    assert found[f"flat {MOST}"].searched


def test_a_bound_of_one_layer_is_one_of_its_group(tmp_path: Path) -> None:
    graph = two_layers(tmp_path)
    found = choices(tmp_path, graph, {"measure": "pq_index"}, group="flat|spiky")
    assert found[f"spiky {HALF}"].searched
    assert found[f"spiky {MOST}"].reason == (
        "spiky: shares its level with flat, which cannot be unstructured@0.9:fp32"
    )


def test_the_dry_run_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_layers(tmp_path)
    (tmp_path / "space.yaml").write_text(
        f"description: x\nlevels: ['{MOST}']\nbound: {{measure: pq_index, slack: 1.0}}\n"
    )
    monkeypatch.setenv("COLUMNS", "250")
    argv = [
        "optimize", str(tmp_path / "model.onnx"), "--latency-budget", "60%", "--calibration",
        "c.npz", "--validation", "v.npz", "--space", str(tmp_path / "space.yaml"), "--dry-run",
    ]  # fmt: skip
    assert main.run(argv) == 0
    assert "flat: the space bounds its zeros at 75.0%, by its PQ index of 0.000 with slack 1" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ("{measure: guess}", "bound.measure"),
        ("{measure: pq_index, slack: -1}", "bound.slack"),
        ("{measure: knee, slack: 1}", "a knee has none"),
    ],
)
def test_a_bound_that_is_none_is_refused(tmp_path: Path, bound: str, words: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(f"description: x\nlevels: ['{MOST}']\nbound: {bound}\n")
    with pytest.raises(ConfigError, match=words):
        load_space(str(path))
