"""A job with a recovery training: a residual CNN, its files, and a search without a strategy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from autosparse.calibration import RangeObserver
from autosparse.datasets import Dataset
from autosparse.errors import CandidateError
from autosparse.evaluation.sample import whole
from autosparse.journal import Journal
from autosparse.levels import Level, Recipe
from autosparse.levels.table import Cell, LevelTable
from autosparse.pipeline.baseline import measure_baseline
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.config import JobConfig, read_config
from autosparse.pipeline.job import Engines, Job, first_rows, prepare_job
from autosparse.pipeline.parity import Parity
from autosparse.pipeline.records import MeasuredTrial, TrialRecord
from autosparse.pipeline.recover import Recovered, recover
from autosparse.pipeline.search_run import Search
from autosparse.pipeline.training_rows import load_training_rows
from autosparse.pipeline.trial import run_trial
from autosparse.pipeline.workspace import open_workspace
from autosparse.recovery.averaging import train
from autosparse.recovery.members import Subject
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.training import Outcome
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
FEW_STEPS = partial(TrainingPlan, steps=24, arithmetic="fp32", temperature=1.0)
"""Steps, not time, end the trainings: how fast the machine is must not matter."""


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


def rows_of(job: Job) -> Dataset:
    rows = load_training_rows(job)
    assert rows is not None
    return rows


@dataclass
class SlowTrainings:
    """Trainings by whose clock each takes all the time that it has; half, if it diverges."""

    diverge: tuple[int, ...]
    """Numbers of those that do, in their order."""
    seconds: list[float] = field(default_factory=list)
    """What each had."""
    taken: float = 0.0

    def clock(self) -> float:
        return self.taken

    def train(self, subject: Subject, rows: Dataset, plan: TrainingPlan, *others: Any) -> Outcome:
        self.seconds.append(plan.seconds)
        diverges = len(self.seconds) - 1 in self.diverge
        self.taken += plan.seconds / 2 if diverges else plan.seconds
        if diverges:
            raise CandidateError("the recovery training diverged")
        return train(subject, rows, plan.model_copy(update={"seconds": 600.0}), *others)

    def at(self, job: Job) -> Job:
        """The job, by this clock."""
        return replace(job, engines=replace(job.engines, clock=self.clock))


def recovered_by(job: Job, *levels: Level) -> tuple[Bench, PlainSearch, Recovered]:
    bench = bench_of(job)
    search = PlainSearch(bench)
    for level in levels:
        search.try_recipe(recipe_at(bench, level), "start")
    rows = load_training_rows(job)
    return bench, search, recover(bench, cast(Search, search), AGREES, rows)
