"""Sparse levels are timed before a costly method makes them, and what fails is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.errors import DisturbedError
from autosparse.evaluation import LoweredModel, Measurement
from autosparse.levels.table import Cell
from autosparse.pipeline.job import Engines
from autosparse.pipeline.progress import Silent
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.sparse_world import SparseWorld

BLOCKS, UNSTRUCTURED = "block1x4@0.5:int8+magnitude", "unstructured@0.9:fp32+magnitude"
SPACE = f"""schema_version: 1
description: Dense INT8, a sparse level that it outruns, and one that outruns it.
levels: ["dense:int8+round_to_nearest", "{BLOCKS}", "{UNSTRUCTURED}"]
"""


def cells_of(root: Path, level: str) -> list[Cell]:
    """What the job's level table says of a level."""
    (journal,) = (root / "out").rglob("cells.jsonl")
    lines = journal.read_text(encoding="utf-8").splitlines()
    cells = [Cell.model_validate_json(line) for line in lines]
    return [cell for cell in cells if str(cell.level) == level]


def run(root: Path, planted: SparseWorld, lane: FakeLane | None = None) -> None:
    space = root / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    engines = Engines(planted.backend, lane or planted.lane, Silent())
    planted.world.run(engines=engines, trials=3, space=str(space))


def test_a_level_that_loses_is_refused_and_one_that_wins_is_searched(tmp_path: Path) -> None:
    run(tmp_path, SparseWorld.make(tmp_path))
    losers, winners = cells_of(tmp_path, BLOCKS), cells_of(tmp_path, UNSTRUCTURED)
    assert losers
    assert all(not c.searched and "with less error" in c.reason for c in losers)
    assert winners
    assert all(c.searched for c in winners)


def test_a_level_that_runs_densely_is_refused(tmp_path: Path) -> None:
    planted = SparseWorld.make(tmp_path)
    planted.backend.densely.add("unstructured@0.9:fp32")
    run(tmp_path, planted)
    assert all("no faster" in c.reason for c in cells_of(tmp_path, UNSTRUCTURED))


def test_a_kernel_that_cannot_be_built_is_a_reason_and_the_job_goes_on(tmp_path: Path) -> None:
    run(tmp_path, SparseWorld.make(tmp_path, broken=UNSTRUCTURED))
    assert all("does not compile" in c.reason for c in cells_of(tmp_path, UNSTRUCTURED))


class DisturbedLane(FakeLane):
    """A machine that is too noisy whenever a sparse file is timed."""

    def _measurement(self, label: str, model: LoweredModel) -> Measurement:
        if any(level.sparsity > 0 for level in self._levels(model).values()):
            raise DisturbedError("every round of samples was disturbed")
        return super()._measurement(label, model)


def test_a_disturbed_machine_refuses_no_level(tmp_path: Path) -> None:
    """The table outlives the noise: a level dropped for it would be dropped for good."""
    planted = SparseWorld.make(tmp_path)
    lane = DisturbedLane(planted.lane.planted, planted.world.layers)
    with pytest.raises(DisturbedError):
        run(tmp_path, planted, lane)
    assert cells_of(tmp_path, UNSTRUCTURED) == []
