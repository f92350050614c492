"""What stands in the way of another answer, and what is said of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.errors import BundleError, ConfigError, StorageError, UserInputError
from autosparse.evaluation import Verdict
from autosparse.pipeline.workspace import Workspace, held
from tests.pipeline.resolving import copied, finished_world, lane, resolve
from tests.pipeline.worlds import World


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    return finished_world(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def world(finished: World, tmp_path: Path) -> World:
    """A finished job with a budget of 80 %, in a place of its own."""
    return copied(finished, tmp_path)


def move_bundle(world: World) -> dict[str, Any]:
    shutil.copytree(world.root / "out" / "bundle", world.root / "elsewhere")
    return {"source": world.root / "elsewhere"}


def lose_the_job(world: World) -> dict[str, Any]:
    shutil.rmtree(world.root / "out" / "job")
    return {}


def lose_the_table(world: World) -> dict[str, Any]:
    shutil.rmtree(world.root / "out" / "job" / "level_table")
    return {}


def lose_the_model(world: World) -> dict[str, Any]:
    (world.root / "model.onnx").rename(world.root / "moved.onnx")
    return {}


def change_the_labels(world: World) -> dict[str, Any]:
    path = world.root / "validation.npz"
    with np.load(path) as file:
        np.savez(path, x=file["x"], labels=(file["labels"] + 1) % 4)
    return {}


def be_elsewhere(world: World) -> dict[str, Any]:
    (table,) = (world.root / "out" / "job" / "level_table").iterdir()
    path = table / "environment.json"
    environment = json.loads(path.read_bytes())
    environment["cpu"] = "Another CPU"
    environment["libraries"]["onnxruntime"] = "0.1"
    path.write_text(json.dumps(environment))
    table.rename(table.with_name("0123456789ab"))
    return {}


def be_elsewhere_without_a_word(world: World) -> dict[str, Any]:
    (table,) = (world.root / "out" / "job" / "level_table").iterdir()
    (table / "environment.json").unlink()
    table.rename(table.with_name("0123456789ab"))
    return {}


def put_beside_another_job(world: World) -> dict[str, Any]:
    path = world.root / "out" / "job" / "inputs.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "model": "0" * 64}))
    return {"source": world.root / "out" / "bundle"}


def damage_the_config(world: World) -> dict[str, Any]:
    (world.root / "out" / "job" / "config.json").write_text("{}")
    return {}


def name_nothing(world: World) -> dict[str, Any]:
    return {"source": world.root / "nowhere"}


def name_anything(world: World) -> dict[str, Any]:
    (world.root / "empty").mkdir()
    return {"source": world.root / "empty"}


def name_another_file(world: World) -> dict[str, Any]:
    return {"source": world.root / "out" / "job" / "candidates.jsonl"}


def name_a_copy_of_the_study(world: World) -> dict[str, Any]:
    return {"source": shutil.copy(Workspace(world.root / "out").study, world.root / "out")}


Obstacle = Callable[[World], dict[str, Any]]


@pytest.mark.parametrize(
    ("obstacle", "kind", "words"),
    [
        (move_bundle, BundleError, "a bundle without its job: .*it is still there: give"),
        (lose_the_job, BundleError, "a bundle without its job: .*autosparse verify"),
        (lose_the_table, ConfigError, "has no level table: .*--resume"),
        (lose_the_model, ConfigError, "the model file .* is no longer there .*--model"),
        (change_the_labels, ConfigError, "the validation file .* is not the one that the job in"),
        (be_elsewhere, ConfigError, "measured elsewhere: cpu Another CPU there, .*runtime 0.1 the"),
        (be_elsewhere_without_a_word, ConfigError, "elsewhere: environment 0123456789ab there"),
        (put_beside_another_job, BundleError, "is that of another model"),
        (damage_the_config, ConfigError, "cannot be read: model: Field required"),
        (name_nothing, ConfigError, "there is no .*nowhere"),
        (name_anything, ConfigError, "neither a bundle nor the output directory of a job"),
        (name_another_file, ConfigError, "jsonl is neither a bundle nor the output directory"),
        (name_a_copy_of_the_study, ConfigError, "journal is neither a bundle nor the output"),
    ],
)
def test_what_is_missing_is_said(
    world: World, obstacle: Obstacle, kind: type[UserInputError], words: str
) -> None:
    engines = world.engines()
    fields = obstacle(world)
    with pytest.raises(kind, match=words):
        resolve(world, latency_budget="61%", engines=engines, **fields)
    assert lane(engines).measured == []
    assert not (world.root / "new").exists()


def test_moved_files_are_given_anew(world: World) -> None:
    moved: dict[str, Any] = {
        name: (world.root / f"{name}{end}").rename(world.root / f"moved-{name}{end}")
        for name, end in (("model", ".onnx"), ("calibration", ".npz"), ("validation", ".npz"))
    }
    assert resolve(world, latency_budget="61%", **moved).verdict is Verdict.MET


def test_a_job_that_is_at_work_is_left_alone(world: World) -> None:
    job = world.root / "out" / "job"
    with held(job, job), pytest.raises(StorageError, match="another process works in"):
        resolve(world, latency_budget="61%")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"latency_budget": "fast"}, "no latency budget"),
        ({"keep": "nothing=dense:int8"}, "--keep 'nothing' matches no layer"),
        ({"exclude": "nothing"}, "--exclude 'nothing' matches no layer"),
        ({"keep": "layer1"}, "names no level"),
        ({"keep": "layer=dense:int8", "exclude": "layer1"}, "layer1 is excluded by --exclude"),
        ({"time_limit": "soon"}, "no duration"),
        ({"budget": "61%"}, "there is no --budget"),
    ],
)
def test_bad_requests_are_refused(world: World, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve(world, **fields)
    assert not (world.root / "new").exists()
