"""The correct step is taken where it lowers the divergence, and gives one file for one recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.calibration import ActivationRanges
from autosparse.evaluation.sample import whole
from autosparse.levels import Level, Recipe
from autosparse.levels.table import Cell, LevelTable
from autosparse.pipeline import correction
from autosparse.pipeline.correction import CorrectionEffect, CorrectionTest
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.lowering import lower_recipe
from autosparse.pipeline.progress import Silent
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.fakes.fake_backend import FakeBackend
from tests.lowering import weight_at
from tests.models import Net, residual_cnn
from tests.pipeline.opened import PLANTED, opened_jobs

SPARSE = Level.parse("unstructured@0.80:fp32+magnitude")
KIND = SPARSE.without_method()


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def job(tmp_path: Path, notes: Notes) -> Iterator[Job]:
    yield from opened_jobs(tmp_path, residual_cnn(), OnnxRuntimeBackend(), notes)


def trial_of(job: Job) -> CorrectionTest:
    """Every layer may have one level."""
    table = LevelTable(job.workspace.table)
    for layer in job.graph.layers:
        cell = Cell(layer=layer.name, level=SPARSE, searched=True, divergence=0.1)
        table.put(cell, weight_at(job.graph, layer, SPARSE))
    few = first_rows(job.selecting, 32)
    sample = whole(few, job.kept(job.original, few, "few"))
    return CorrectionTest(job, table, ActivationRanges(tensors={}), sample)


def test_what_helps_is_done_and_gives_one_file(job: Job, notes: Notes, tmp_path: Path) -> None:
    test = trial_of(job)
    decided = test.decide(tmp_path / "effects.jsonl")
    found = decided.correction
    assert decided.decision is not None
    assert decided.decision.told == "made where it helps: at 1 of 1 kinds of level"
    assert found is not None
    assert found.kinds == {KIND}
    assert any(f"{KIND} are corrected" in text for text in notes.texts)
    levels = {layer.name: SPARSE for layer in job.graph.layers}
    recipe = Recipe(model_sha256=job.graph.sha256, levels=levels)
    files = []
    for name, chosen in (("plain", None), ("once", found), ("again", found)):
        model = lower_recipe(job, test.table, recipe, test.ranges, name, correction=chosen)
        files.append(model)
    assert files[1].sha256() == files[2].sha256()
    plain, corrected = (job.divergence(model, test.sample) for model in files[:2])
    assert corrected < 0.8 * plain


def test_a_resumed_job_decides_as_it_did_before(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, test = tmp_path / "effects.jsonl", trial_of(job)
    first = test.decide(path).correction
    monkeypatch.setattr(correction, "lower_layers", None)  # nothing is lowered again
    again = test.decide(path).correction
    assert first is not None
    assert again is not None
    assert again.kinds == first.kinds
    path.write_text(CorrectionEffect(kind=KIND, plain=1.0, corrected=1.0).model_dump_json() + "\n")
    assert test.decide(path).correction is None


def test_an_effect_that_is_no_number_does_not_help() -> None:
    effect = CorrectionEffect(kind=KIND, plain=float("inf"), corrected=float("nan"))
    again = CorrectionEffect.model_validate_json(effect.model_dump_json())
    assert not effect.helps
    assert not again.helps
    assert again.plain == effect.plain


def test_without_an_effect_nothing_is_corrected(tmp_path: Path, notes: Notes) -> None:
    """The planted errors do not depend on the weights."""
    for job in opened_jobs(tmp_path, residual_cnn(), FakeBackend(PLANTED), notes):
        assert trial_of(job).decide(tmp_path / "effects.jsonl").correction is None
        assert any("are not corrected" in text for text in notes.texts)


def test_a_graph_that_torch_cannot_run_goes_without(tmp_path: Path, notes: Notes) -> None:
    net = Net()
    image = net.node("LpNormalization", net.input("image", "batch", 3, 8, 8), axis=1)
    pooled = net.node("GlobalAveragePool", net.conv(image, "stem", 3, 8))
    net.node("Flatten", pooled, to="logits")
    for job in opened_jobs(tmp_path, net, OnnxRuntimeBackend(), notes):
        assert trial_of(job).decide(tmp_path / "effects.jsonl").correction is None
        assert any("torch" in text and "LpNormalization" in text for text in notes.texts)


def test_a_model_that_takes_one_row_at_a_time_goes_without(tmp_path: Path, notes: Notes) -> None:
    for job in opened_jobs(tmp_path, residual_cnn(batch=1), OnnxRuntimeBackend(), notes):
        decided = trial_of(job).decide(tmp_path / "effects.jsonl")
        assert decided.correction is None
        assert any("too few" in text for text in notes.texts)
        assert decided.decision is not None
        assert decided.decision.told == "not tried: 1 rows at once are too few"


def test_rows_are_as_many_as_fit_into_memory(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    # the largest outputs of a layer have 8 x 8 x 8 floats a row
    monkeypatch.setattr(correction, "_LARGEST_BYTES", 20 * 8 * 8 * 8 * 4)
    assert correction._batch_rows(job) == 20
    one = replace(job, calibration=first_rows(job.calibration, 1))
    assert correction._batch_rows(one) == 1
