"""Rows that the model itself has no answer to are told before anything is searched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import DataError
from autosparse.evaluation import LoweredModel
from autosparse.evaluation.backend import Array
from autosparse.pipeline.job import Engines
from autosparse.pipeline.progress import Silent
from tests.fakes.fake_backend import FakeBackend, FakeRunner, Planted
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.worlds import World, layer_seconds, summed_error

FAR = 100.0


class LostRunner(FakeRunner):
    """Loses every row that lies far out."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        answers = super().run(inputs)
        lost = np.asarray(inputs["x"], np.float32)[:, 0] >= FAR
        answers["logits"][lost] = np.nan
        return answers


class LosingBackend(FakeBackend):
    def open(self, model: LoweredModel, *, threads: int) -> FakeRunner:
        return LostRunner(0.0)


def run(world: World, **fields: Path) -> None:
    engines = Engines(LosingBackend(world.planted), FakeLane(world.planted, world.layers), Silent())
    world.run(engines=engines, resume=False, **fields)


# both halves, whichever rows they have
@pytest.mark.parametrize("row", [3, 4, 5, 6])
def test_a_row_of_the_validation_file_without_an_answer_is_named(tmp_path: Path, row: int) -> None:
    world = World.make(tmp_path, 3, Planted(layer_seconds, summed_error({})))
    with np.load(tmp_path / "validation.npz") as data:
        x, labels = data["x"].copy(), data["labels"]
    x[row, 0] = FAR
    np.savez(tmp_path / "validation.npz", x=x, labels=labels)
    with pytest.raises(DataError, match=f"values, to row {row} of the validation file "):
        run(world)


def test_a_row_of_the_test_file_without_an_answer_is_named(tmp_path: Path) -> None:
    world = World.make(tmp_path, 3, Planted(layer_seconds, summed_error({})))
    with np.load(tmp_path / "validation.npz") as data:
        x, labels = data["x"].copy(), data["labels"]
    x[[7, 9], 0] = FAR
    np.savez(tmp_path / "test.npz", x=x, labels=labels)
    with pytest.raises(DataError, match="values, to row 7 of the test file and 1 more"):
        run(world, test=tmp_path / "test.npz")
