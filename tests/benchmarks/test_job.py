"""What the `job` benchmark does around its measurements: nothing here runs a job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.evaluation import LoweredModel
from autosparse.levels import Recipe
from benchmarks import job_parts
from benchmarks.benchmark import Request
from benchmarks.greedy_mix import GreedyLadder, Step
from benchmarks.job import JobBenchmark
from benchmarks.job_cells import layer_gap
from benchmarks.job_models import MODELS, QUICK, ModelSource
from benchmarks.job_rows import memory_row
from benchmarks.memory import SampledRun
from benchmarks.model_files import ModelFiles, ModelRequest, Sizes, write_parts
from benchmarks.product_jobs import command_line, job_fields

FEW = Sizes(calibration=2, validation=2, held_out=2)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    (tmp_path / "model.onnx").write_bytes(b"0" * 1000)
    rows = np.zeros((2, 3), np.float32)
    calibration, validation = write_parts(tmp_path / "given", {"x": rows}, {"x": rows})
    return ModelFiles(
        name="tiny", onnx=tmp_path / "model.onnx", calibration=calibration,
        validation=validation, held_out=Dataset({"x": rows}), metric="kl",
        input_shapes=("a=1,2", "b=1,3"),
    )  # fmt: skip


def request_for(tmp_path: Path, *models: str) -> Request:
    return Request(quick=True, assets=tmp_path / "none", directory=tmp_path / "run", models=models)


def test_a_missing_file_skips_the_model_and_says_so(tmp_path: Path) -> None:
    (row,) = JobBenchmark().rows(request_for(tmp_path, "resnet20"))
    assert row.holds is None
    assert "models/resnet20.onnx" in row.note


def test_an_unknown_model_is_said(tmp_path: Path) -> None:
    (row,) = JobBenchmark().rows(request_for(tmp_path, "resnet21"))
    assert "known: resnet20" in row.note


def test_a_model_that_fails_does_not_lose_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: ModelRequest) -> ModelFiles:
        raise RuntimeError("the exporter broke")

    monkeypatch.setattr(job_parts, "MODELS", {**MODELS, "broken": ModelSource(fail, FEW)})
    missing, broken, left = JobBenchmark().rows(request_for(tmp_path, "broken", "resnet20"))
    assert missing.note.startswith("skipped: there is no models/resnet20.onnx")
    assert (broken.what, broken.holds) == ("broken/reach", False)
    assert broken.note == "RuntimeError: the exporter broke"
    assert left.note.startswith("those that need broken/reach")


def test_memory_is_held_against_what_was_given(files: ModelFiles) -> None:
    assert files.given_bytes > 1000
    gib = 1 << 30
    inside = memory_row("m", files, SampledRun(3, gib, 1.0, ""), "e")
    outside = memory_row("m", files, SampledRun(3, 2 * gib, 1.0, ""), "e")
    assert (inside.figure, inside.holds, outside.holds) == (1.0, True, False)


def test_the_command_asks_for_the_same_job_as_python(files: ModelFiles, tmp_path: Path) -> None:
    fields = job_fields(files, QUICK, "60%", tmp_path / "out", 40.0)
    words = command_line(files.onnx, fields)
    assert words[1:5] == ["-m", "autosparse", "optimize", str(files.onnx)]
    assert words.count("--input-shape") == 2
    assert words[words.index("--latency-budget") + 1] == "60%"
    assert words[words.index("--max-drop") + 1] == fields["max_drop"]
    assert "labels" not in np.load(files.validation).files


def test_the_mix_keeps_as_much_fp32_as_the_budget_allows() -> None:
    file = LoweredModel(Path(), "model.onnx")
    # putting one layer back can make a file faster: borders cost
    ratios = (0.50, 0.62, 0.58, 0.71, 1.0)
    layers = ("a", "b", "c", "d")
    steps = tuple(Step(layers[:n], file, ratio) for n, ratio in enumerate(ratios))
    ladder = GreedyLadder(integer_layers=4, steps=steps)
    assert [len(step.reverted) for step in ladder.within(0.6)] == [2, 0]
    assert [len(step.reverted) for step in ladder.within(1.0)] == [4, 3, 2, 1, 0]
    assert not list(ladder.within(0.4))


def test_a_lost_cell_names_the_layers() -> None:
    recipe = Recipe.model_validate(
        {"model_sha256": "0", "levels": {"a": "dense:fp32", "b": "dense:int8", "c": "dense:fp32"}}
    )
    step = Step(("b", "c"), LoweredModel(Path(), "model.onnx"), 0.5)
    assert layer_gap(recipe, step) == "fp32 only in ours: a; fp32 only in the mix: b"
