"""A training is done again where anything that it depends on is another one, and only there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.levels.table import LevelTable
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.correction import Correction
from autosparse.pipeline.training_key import training_key
from autosparse.recovery import RECOVERIES
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.statistics_correction import StatisticsCorrection
from tests.lowering import weight_at
from tests.pipeline.recovery_job import SPARSE, bench_of, config_of, opened, recipe_at, write_files
from tests.pipeline.sparse_world import Notes

PAIRS = {"image": np.zeros((4, 2), np.float32)}, {"image": np.ones((4, 2), np.float32)}
ROWS = Dataset(PAIRS[0], np.arange(4), PAIRS[1])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    write_files(tmp_path)
    for job in opened(config_of(tmp_path), Notes()):
        yield bench_of(job)


def key(bench: Bench, rows: Dataset = ROWS, recovery: str = "fine_tune", seed: int = 0) -> str:
    plan = TrainingPlan(seed=seed)
    return training_key(bench, recipe_at(bench, SPARSE), RECOVERIES.load(recovery), plan, rows)


def test_rows_and_how_they_are_learned_from(bench: Bench) -> None:
    others = [
        replace(ROWS, labels=None),
        replace(ROWS, labels=np.arange(4)[::-1]),
        replace(ROWS, pair_inputs=None),
        replace(ROWS, pair_inputs=PAIRS[0]),
        replace(ROWS, inputs=PAIRS[1]),
    ]
    keys = {key(bench, rows) for rows in (ROWS, *others)}
    keys |= {key(bench, recovery="sparse_soup"), key(bench, seed=1)}
    assert len(keys) == len(others) + 3
    assert key(bench, replace(ROWS, inputs=dict(PAIRS[0]))) == key(bench)


def test_weights_their_correction_and_grids(bench: Bench) -> None:
    known = key(bench)
    name, one = next(iter(bench.ranges.tensors.items()))
    wider = {**bench.ranges.tensors, name: one.model_copy(update={"high": one.high + 1.0})}
    assert key(replace(bench, ranges=bench.ranges.model_copy(update={"tensors": wider}))) != known
    kinds = frozenset({SPARSE.without_method()})
    corrected = Correction(cast(StatisticsCorrection, None), kinds)
    assert key(replace(bench, correction=corrected)) != known
    layer = bench.job.graph.layers[1]
    weight = weight_at(bench.job.graph, layer, SPARSE)
    cell = bench.table.find(layer.name, SPARSE)
    assert cell is not None
    bench.table.put(cell, replace(weight, values=2 * weight.values))
    again = LevelTable(bench.job.workspace.table)
    assert key(replace(bench, table=again)) != known
