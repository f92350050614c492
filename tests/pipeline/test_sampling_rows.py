"""How many rows a candidate is run on before it may become a trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from autosparse.evaluation import Verdict
from autosparse.evaluation.scores import Outputs, undecidedness
from autosparse.journal import Journal
from autosparse.model_graph import load_model
from autosparse.model_graph.cost import LayerCost, layer_costs
from autosparse.pipeline import sampling_rows
from autosparse.pipeline.job import Job
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.sampling_rows import draw_sample
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.fakes.fake_backend import Planted
from tests.models import residual_cnn
from tests.pipeline.opened import opened_jobs
from tests.pipeline.worlds import WIDTH, World, layer_seconds, summed_error

ERRORS = {"layer0": 0.01, "layer1": 0.2, "layer2": 0.03}
SELECTING = 100


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path, 5, Planted(layer_seconds, summed_error(ERRORS)))


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    yield from opened_jobs(tmp_path, residual_cnn(), OnnxRuntimeBackend(), Silent())


def affords(monkeypatch: pytest.MonkeyPatch, world: World, rows: int) -> None:
    """Candidates may take as many multiply-accumulates as so many rows of this model do."""
    costs = layer_costs(load_model(world.root / "model.onnx"), {"x": (1, WIDTH)})
    macs = sum(cost.macs or 0 for cost in costs.values())
    monkeypatch.setattr(sampling_rows, "_MACS", rows * macs)


def sampled(world: World) -> list[CandidateRecord]:
    log = Journal(Workspace(world.root / "out").candidates, CandidateRecord)
    return [record for record in log.records if record.rung is Rung.SAMPLED]


@pytest.mark.parametrize(("affordable", "rows"), [(80, 80), (3, 64), (10**6, SELECTING)])
def test_as_many_rows_as_are_affordable_but_not_too_few(
    world: World, monkeypatch: pytest.MonkeyPatch, affordable: int, rows: int
) -> None:
    affords(monkeypatch, world, affordable)
    assert world.run(trials=3).verdict is Verdict.MET
    assert {record.rows for record in sampled(world)} == {rows}


def test_where_a_layers_cost_is_unknown_there_are_few(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = {"layer0": LayerCost(None, 64, 256, None)}
    monkeypatch.setattr(sampling_rows, "layer_costs", lambda graph, shapes: unknown)
    world.run(trials=3)
    assert {record.rows for record in sampled(world)} == {64}


def test_divergences_on_other_rows_are_not_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that goes on with other rows runs its candidates again."""
    affords(monkeypatch, world, 80)
    world.run(trials=3)
    before = {record.recipe.id for record in sampled(world)}
    affords(monkeypatch, world, 90)
    world.run(trials=5, resume=True)
    again = {record.recipe.id for record in sampled(world) if record.rows == 90}
    assert before & again
    affords(monkeypatch, world, 90)
    count = len(sampled(world))
    world.run(trials=5, resume=True)
    assert len(sampled(world)) == count


def _sharp(logits: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Other logits, the more decided the later their row is."""
    values = np.random.default_rng(0).standard_normal(logits.shape)
    return values * np.linspace(0.1, 30.0, len(values))[:, None]


def test_of_a_classifier_undecided_rows_are_drawn_more_often(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling_rows, "FEWEST_ROWS", 8)
    monkeypatch.setattr(sampling_rows, "_MACS", 0)
    dense = job.kept(job.original, job.selecting, "dense").loaded()
    # some rows decided, some not
    told_by = Outputs({name: _sharp(values) for name, values in dense.values.items()})
    sample = draw_sample(job, told_by)
    assert len(sample.rows) == len(sample.numbers) == 8
    told = undecidedness(told_by)
    assert told.max() > 3 * told.min()
    # what rows are drawn in proportion to is known better than from any rows drawn evenly
    assert sample.mean(told[sample.numbers]) == pytest.approx(told.mean(), rel=0.1)
    for name, values in job.selecting.inputs.items():
        assert np.array_equal(sample.rows.inputs[name][:], values[sample.numbers])
    for name, values in dense.values.items():
        found = sample.outputs.loaded().values[name]
        assert np.allclose(found, values[sample.numbers], atol=1e-5)
    assert draw_sample(job, told_by).id == sample.id
