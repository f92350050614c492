"""Recovery in the story: winners are trained, become trials, and are found again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from autosparse.calibration import RangeObserver
from autosparse.datasets import Dataset
from autosparse.errors import ConfigError, DataError, StorageError
from autosparse.evaluation import Budget
from autosparse.evaluation.gate import rank
from autosparse.evaluation.sample import whole
from autosparse.journal import Journal
from autosparse.levels import Level, Recipe
from autosparse.levels.recovered import RecoveredWeights
from autosparse.levels.table import Cell, LevelTable
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.model_graph.torch_executor.node import NodeFailedError
from autosparse.pipeline import recover as stage
from autosparse.pipeline.baseline import measure_baseline
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.config import JobConfig, read_config
from autosparse.pipeline.job import Engines, Job, first_rows, prepare_job
from autosparse.pipeline.lowering import lower_recipe
from autosparse.pipeline.parity import Parity
from autosparse.pipeline.records import MeasuredTrial, RecoveryRecord, TrialRecord
from autosparse.pipeline.recover import (
    RECOVERED,
    Recovered,
    Trainer,
    _under_training,
    recover,
    winners_of,
)
from autosparse.pipeline.recovery_report import recovery_report
from autosparse.pipeline.search_run import Search
from autosparse.pipeline.training_rows import load_training_rows
from autosparse.pipeline.trial import run_trial
from autosparse.pipeline.workspace import open_workspace
from autosparse.recovery import looks
from autosparse.recovery.plan import TrainingPlan
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.fakes.fake_backend import Planted
from tests.fakes.fake_lane import FakeLane
from tests.lowering import weight_at
from tests.models import images, residual_cnn
from tests.pipeline.sparse_world import Notes

SPARSE = Level.parse("unstructured@0.80:fp32+magnitude")
SPARSER = Level.parse("unstructured@0.95:fp32+magnitude")
BLOCKS = Level.parse("block1x4@0.5:int8+magnitude")
EVERY_FILE_TAKES = Planted(lambda name, level: 0.0, lambda levels: 0.0, lambda levels: 1e-3)
AGREES = Parity(0.0, "agrees")
ROWS = images(320, seed=5)


def config_of(root: Path, **fields: Any) -> JobConfig:
    given: dict[str, Any] = {
        "model": root / "model.onnx", "calibration": root / "calibration.npz",
        "validation": root / "validation.npz", "latency_budget": "100%", "max_drop": "0.001",
        "train": root / "train.npz", "recover": "fine_tune", "recover_time": "600s",
        "output_dir": root / "out",
    }  # fmt: skip
    return read_config({**given, **fields})


def write_files(root: Path) -> None:
    residual_cnn().save(root / "model.onnx", "logits")
    np.savez(root / "calibration.npz", image=images(64))
    np.savez(root / "validation.npz", image=images(64, seed=2))
    np.savez(root / "train.npz", image=ROWS)


@pytest.fixture
def told() -> Notes:
    return Notes()


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, not time, end the trainings here: how fast the machine is must not matter."""
    quick = partial(TrainingPlan, steps=24, arithmetic="fp32", temperature=1.0)
    monkeypatch.setattr(stage, "TrainingPlan", quick)


@pytest.fixture
def job(tmp_path: Path, told: Notes) -> Iterator[Job]:
    write_files(tmp_path)
    yield from opened(config_of(tmp_path), told)


def opened(config: JobConfig, told: Notes, *, resume: bool = False) -> Iterator[Job]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    engines = Engines(OnnxRuntimeBackend(), FakeLane(EVERY_FILE_TAKES, ()), told)
    with open_workspace(config, resume=resume) as workspace:
        yield prepare_job(config, workspace, engines)
    torch.set_num_threads(threads)


@dataclass
class PlainSearch:
    """Trials without a strategy."""

    bench: Bench
    done: dict[str, TrialRecord] = field(default_factory=dict)

    @property
    def trials(self) -> list[TrialRecord]:
        return list(self.done.values())

    def try_recipe(self, recipe: Recipe, proposed_by: str) -> TrialRecord | None:
        if recipe.id not in self.done:
            self.done[recipe.id] = run_trial(self.bench, recipe, proposed_by)
        return self.done[recipe.id]


def bench_of(job: Job) -> Bench:
    """Every layer may have each level; activations are calibrated."""
    table = LevelTable(job.workspace.table)
    for layer in job.graph.layers:
        for level in (SPARSE, SPARSER, BLOCKS):
            if level is not BLOCKS or layer.input_channels % 4 == 0:
                cell = Cell(layer=layer.name, level=level, searched=True, divergence=0.1)
                table.put(cell, weight_at(job.graph, layer, level))
    backend, few = job.engines.backend, first_rows(job.selecting, 32)
    tensors = backend.calibrated_tensors(job.graph)
    seen = {**few.inputs, **backend.probe(job.graph, tensors, 1).run(few.inputs)}
    observer = RangeObserver()
    for name in tensors:
        observer.observe(name, seen[name].astype(np.float32))
    outputs = job.kept(job.original, few, "few")
    return Bench(
        job=job, baseline=measure_baseline(job), ranges=observer.ranges(), table=table,
        correction=None, sample=whole(few, outputs),
        raw=Journal(job.workspace.measurements, MeasuredTrial),
    )  # fmt: skip


def recipe_at(bench: Bench, level: Level) -> Recipe:
    levels = {
        layer.name: level
        for layer in bench.job.graph.layers
        if bench.table.find(layer.name, level) is not None
    }
    return bench.dense_recipe.model_copy(update={"levels": {**bench.dense_recipe.levels, **levels}})


def recovered_by(job: Job, *levels: Level) -> tuple[Bench, PlainSearch, Recovered]:
    bench = bench_of(job)
    search = PlainSearch(bench)
    for level in levels:
        search.try_recipe(recipe_at(bench, level), "start")
    rows = load_training_rows(job)
    return bench, search, recover(bench, cast(Search, search), AGREES, rows)


@pytest.mark.parametrize("level", [SPARSE, BLOCKS], ids=str)
def test_a_recipe_over_the_allowed_drop_is_trained_and_becomes_a_trial(
    job: Job, level: Level
) -> None:
    bench, search, found = recovered_by(job, level)
    contract = bench.baseline.contract
    assert found.before is not None
    assert found.after is not None
    assert not found.before.evidence.meets_drop(contract)
    assert found.after.proposed_by == RECOVERED
    assert found.after.recipe.id != found.before.recipe.id
    assert found.after.recipe.levels == found.before.recipe.levels
    assert found.after.evidence.divergence < 0.8 * found.before.evidence.divergence
    assert len(search.trials) == 2
    # the gate compares what was trained with everything else
    allowed = contract.max_drop.model_copy(update={"amount": 99.0})
    wide = contract.model_copy(update={"max_drop": allowed})
    assert rank((t.evidence for t in search.trials), wide)[0].recipe_id == found.after.recipe.id


def test_what_was_trained_can_be_lowered_again_and_is_not_trained_again(
    job: Job, tmp_path: Path, told: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _, found = recovered_by(job, SPARSE)
    assert found.after is not None
    recipe = found.after.recipe
    first = lower_recipe(job, bench.table, recipe, bench.ranges, "first", bench.correction)
    again = lower_recipe(job, bench.table, recipe, bench.ranges, "again", bench.correction)
    assert first.sha256() == again.sha256()
    assert Recipe.load(written(recipe, tmp_path / "recipe.yaml")).id == recipe.id

    monkeypatch.setattr(stage, "train", None)  # nothing is trained again
    search = PlainSearch(bench)
    search.try_recipe(recipe_at(bench, SPARSE), "start")
    repeated = recover(bench, cast(Search, search), AGREES, load_training_rows(job))
    assert repeated.after is not None
    assert repeated.after.recipe == recipe
    assert list(job.workspace.recovered.glob("*.pt")) == []


def written(recipe: Recipe, path: Path) -> Path:
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    return path


def test_short_trainings_choose_among_winners(job: Job) -> None:
    _, _, found = recovered_by(job, SPARSER, SPARSE)
    proxies = {r.recipe_id: r.after for r in found.records if r.is_proxy}
    (whole,) = [r for r in found.records if not r.is_proxy]
    assert len(proxies) == 2
    assert whole.recipe_id == min(proxies, key=lambda name: proxies[name])
    report = recovery_report(found, "another")
    assert report is not None
    assert not report.delivered
    assert len(report.compared) == 2
    assert report.curve


def test_winners_are_compared_on_the_same_rows(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one can afford few of them; what the others could does not count."""
    taken = iter([1.0, 1e-6, 1e-6])
    monkeypatch.setattr(looks, "_seconds_of", lambda run: next(taken))
    monkeypatch.setattr(stage, "_rows_in_a_step", lambda bench: 8)
    _, _, found = recovered_by(job, SPARSER, SPARSE)
    batches = [record.held_out_batches for record in found.records]
    assert batches == [1, 1, 4]  # the last one is the training of the chosen one


def test_winners_are_compressed_and_inside_the_budget(job: Job) -> None:
    bench, search, found = recovered_by(job, SPARSE)
    search.try_recipe(bench.dense_recipe, "start")
    assert [t.recipe.id for t in winners_of(bench, search.trials)] == [
        found.before.recipe.id if found.before else ""
    ]
    tight = Budget.model_validate("50%")
    contract = bench.baseline.contract.model_copy(update={"budget": tight})
    strict = replace(bench, baseline=replace(bench.baseline, contract=contract))
    assert winners_of(strict, search.trials) == []


def test_without_parity_nothing_is_trained(job: Job, told: Notes) -> None:
    bench = bench_of(job)
    search = PlainSearch(bench)
    search.try_recipe(recipe_at(bench, SPARSE), "start")
    found = recover(bench, cast(Search, search), Parity(0.5, "they disagree"), rows_of(job))
    assert found.records == ()
    assert any("they disagree" in text for text in told.told)


def test_a_model_that_torch_fails_on_is_not_recovered_and_the_job_goes_on(
    job: Job, told: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: GraphModule, *given: object, **named: object) -> None:
        raise NodeFailedError("no such row, while the torch executor ran Gather (node 'g')")

    monkeypatch.setattr(GraphModule, "forward", fails)
    _, search, found = recovered_by(job, SPARSE)
    assert found.after is None
    assert len(search.trials) == 1
    (note,) = found.notes
    assert note in told.told
    assert note.startswith("the recovery training came to nothing: the torch executor fails: ")
    assert "ran Gather (node 'g')" in note


def rows_of(job: Job) -> Dataset:
    rows = load_training_rows(job)
    assert rows is not None
    return rows


def test_what_is_distilled_is_asked_for_by_name(tmp_path: Path, told: Notes) -> None:
    write_files(tmp_path)
    for job in opened(config_of(tmp_path, distill="features"), told):
        plan = Trainer(bench_of(job), rows_of(job))._plan(5.0, None)
        assert (plan.features, plan.attention) == (1.0, 0.0)


@pytest.mark.checks("note on under-training")
@pytest.mark.parametrize(("last", "is_told"), [(1.0, True), (1.95, False)])
def test_a_training_that_ended_too_early_is_told(last: float, is_told: bool) -> None:
    losses = [4.0] * 8 + [2.0] * 4 + [last] * 4
    record = RecoveryRecord(
        key="k", recipe_id="r", method="fine_tune", is_proxy=False, weights=None, before=1.0,
        after=0.5, steps=16, seconds=1.0, end="time", arithmetic="fp32",
        curve=tuple((step, loss, loss) for step, loss in enumerate(losses)),
    )  # fmt: skip
    found = list(_under_training(record))
    assert bool(found) == is_told
    assert all("50 % lower" in note for note in found)
    assert not list(_under_training(record.model_copy(update={"end": "no improvement"})))


def test_no_recovery_is_asked_for(job: Job) -> None:
    assert recover(cast(Bench, None), cast(Search, None), AGREES, None) == Recovered()


def test_rows_that_judge_are_not_trained_on(tmp_path: Path, told: Notes) -> None:
    write_files(tmp_path)
    judging = images(64, seed=2)
    np.savez(tmp_path / "train.npz", image=np.concatenate([ROWS, judging[:10], ROWS[:3]]))
    for job in opened(config_of(tmp_path), told):
        rows = rows_of(job)
        assert len(rows) == 323
        assert np.array_equal(rows.inputs["image"][:320], ROWS)
    assert any(text.startswith("10 rows of the train file") for text in told.told)


def test_a_train_file_of_judging_rows_only_is_refused(tmp_path: Path, told: Notes) -> None:
    write_files(tmp_path)
    np.savez(tmp_path / "train.npz", image=images(64, seed=2))
    for job in opened(config_of(tmp_path), told):
        with pytest.raises(DataError, match="every row of the train file"):
            load_training_rows(job)


@pytest.mark.parametrize(
    ("arrays", "fields", "sentence"),
    [
        ({"image": ROWS.astype(np.float64)}, {}, "'image' of the train file is float64"),
        ({"picture": ROWS}, {}, "the train file train.npz holds the array 'picture'"),
        ({"image": ROWS[:, :2]}, {}, "'image' of the train file has the shape"),
        ({"image": np.full_like(ROWS, np.nan)}, {}, "'image' of the train file has NaN"),
        ({"image": ROWS[:0]}, {}, "the train file train.npz has no rows"),
        ({"image": ROWS}, {"train_labels": True}, "--train-labels needs labels"),
        ({"image": ROWS, "labels": np.full(320, 10)}, {"train_labels": True}, "10 classes"),
        ({"image": ROWS, "labels": np.ones(320)}, {"train_labels": True}, "float64 (320,)"),
        ({"image": ROWS}, {"distill": "attention"}, "the model has no attention weights"),
        ({"image": ROWS}, {"recover": "fine_tone"}, "no recovery is called 'fine_tone'"),
    ],
)
def test_a_wrong_train_file_is_told_at_intake(
    tmp_path: Path, told: Notes, arrays: dict[str, Any], fields: dict[str, Any], sentence: str
) -> None:
    write_files(tmp_path)
    np.savez(tmp_path / "train.npz", **arrays)
    for job in opened(config_of(tmp_path, **fields), told):
        with pytest.raises((DataError, ConfigError)) as caught:
            load_training_rows(job)
        assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"train": None}, "--recover needs rows to train on"),
        ({"recover": None}, "--train belongs to a recovery training"),
        ({"recover": None, "train": None, "augment": "flip"}, "--augment belongs to a recovery"),
        ({"augment": "flip,turn"}, "--augment"),
        ({"distill": "logits"}, "--distill"),
        ({"recover": None, "train": None, "distill": "features"}, "--distill belongs to a recov"),
        ({"recover_time": "soon"}, "'soon' is no duration"),
    ],
)
def test_flags_that_do_not_belong_together(
    tmp_path: Path, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config_of(tmp_path, **fields)


def test_a_stored_configuration_can_be_read_again(tmp_path: Path) -> None:
    plain = config_of(tmp_path, train=None, recover=None, recover_time=600.0)
    assert JobConfig.model_validate_json(plain.model_dump_json()) == plain
    asked = config_of(tmp_path, augment=["flip", "shift"], distill="features,attention")
    assert JobConfig.model_validate_json(asked.model_dump_json()) == asked


def test_recovered_weights_are_whole_or_not_there(tmp_path: Path, job: Job) -> None:
    layer = job.graph.layers[0]
    weights = {layer.name: weight_at(job.graph, layer, SPARSE)}
    store = RecoveredWeights(tmp_path / "store")
    digest = store.put(weights)
    assert store.put(weights) == digest
    assert np.array_equal(store.load(digest)[layer.name].values, weights[layer.name].values)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [digest]
    with pytest.raises(StorageError, match="run the job with --recover"):
        store.load("0" * 16)
