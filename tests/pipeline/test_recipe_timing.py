"""Recipes timed several to a run: what one of them does to the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from autosparse.calibration import ActivationRanges
from autosparse.errors import DisturbedError, KilledError, MeasurementError
from autosparse.evaluation import LoweredModel
from autosparse.levels import Level, Recipe
from autosparse.levels.weights import CompressedWeight
from autosparse.pipeline.job import Job, prepare_job
from autosparse.pipeline.recipe_timing import TRIAL_TIMING, RecipeTimes, measure_recipes
from autosparse.pipeline.workspace import open_workspace
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error

INT8 = Level.parse("dense:int8")


class NoWeights:
    """The fake backend looks at levels only."""

    def weight(self, layer: str, level: Level) -> CompressedWeight:
        return CompressedWeight(values=np.zeros((1, 1), np.float32))

    def has_weight(self, layer: str, level: Level) -> bool:
        return True


@contextmanager
def job_in(
    root: Path, fail: Callable[[Mapping[str, LoweredModel]], None], broken: str = ""
) -> Iterator[tuple[Job, list[Recipe]]]:
    """A job of eight layers, and eight recipes with one of them in int8 each."""
    planted = Planted(
        layer_seconds, summed_error({}),
        broken=lambda levels: "no kernel" if levels.get(broken) == INT8 else "",
    )  # fmt: skip
    world = World.make(root, 8, planted)
    config = world.config()
    with open_workspace(config, resume=False) as workspace:
        job = prepare_job(config, workspace, world.engines(fail=fail))
        dense = dict.fromkeys(world.layers, Level.parse("dense:fp32"))
        recipes = [
            Recipe(model_sha256=job.graph.sha256, levels={**dense, name: INT8})
            for name in world.layers
        ]
        yield job, recipes


def timed(job: Job, recipes: list[Recipe]) -> RecipeTimes:
    ranges = ActivationRanges(tensors={})
    return measure_recipes(job, NoWeights(), ranges, recipes, TRIAL_TIMING)


@pytest.mark.parametrize("crash", [MeasurementError, KilledError])
def test_a_file_that_crashes_hides_no_other(tmp_path: Path, crash: type[MeasurementError]) -> None:
    guilty: list[str] = []

    def fail(files: Mapping[str, LoweredModel]) -> None:
        if guilty and guilty[0] in files:
            raise crash("the measuring process was killed by signal 11")

    with job_in(tmp_path, fail) as (job, recipes):
        guilty.append(recipes[3].id)
        times = timed(job, recipes)
    others = {recipe.id for recipe in recipes} - {recipes[3].id}
    assert times.compared.keys() == others
    for comparison in times.compared.values():
        assert comparison.ratio("p50") == pytest.approx(740 / 800)
    assert times.failed == {recipes[3].id: "the measuring process was killed by signal 11"}


def test_a_file_that_cannot_be_lowered_is_named_with_its_reason(tmp_path: Path) -> None:
    with job_in(tmp_path, lambda files: None, broken="layer2") as (job, recipes):
        assert job.graph.layers[2].name == "layer2"
        times = timed(job, recipes)
    assert times.failed == {recipes[2].id: "no kernel"}
    assert len(times.compared) == 7


def test_a_disturbed_machine_fails_no_file(tmp_path: Path) -> None:
    """Nor are they timed one by one: that would take eight times as long, for the same noise."""
    asked: list[int] = []

    def fail(files: Mapping[str, LoweredModel]) -> None:
        asked.append(len(files))
        raise DisturbedError("every round of samples was disturbed")

    with job_in(tmp_path, fail) as (job, recipes):
        times = timed(job, recipes)
    assert times == RecipeTimes()
    assert asked == [9]
