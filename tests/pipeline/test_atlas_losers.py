"""A job with an atlas: what lost there is not measured again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from autosparse.errors import ConfigError
from autosparse.evaluation import LoweredModel
from autosparse.pipeline.atlas import run_atlas
from autosparse.pipeline.atlas_losers import without_losers
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import prepare_job
from autosparse.pipeline.known_atlas import known_atlas
from autosparse.pipeline.layer_choices import Choice, layer_choices
from autosparse.pipeline.optimize import run_job
from autosparse.pipeline.workspace import open_workspace
from search_spaces import load_space
from tests.pipeline.sparse_world import SparseWorld

LEVELS = (
    "dense:int8+round_to_nearest", "unstructured@0.5:fp32+sparsegpt",
    "unstructured@0.9:fp32+wanda", "block1x4@0.5:int8+magnitude", "2:4:int8+wanda",
)  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> SparseWorld:
    made = SparseWorld.make(tmp_path / "world")
    space = made.world.root / "space.yaml"
    listed = "".join(f"  - {level}\n" for level in LEVELS)
    space.write_text(f"schema_version: 1\ndescription: planted\nlevels:\n{listed}")
    return made


def config(world: SparseWorld, **fields: object) -> JobConfig:
    root = world.world.root
    return world.world.config(space=str(root / "space.yaml"), atlas=root / "atlas", **fields)


def judged(world: SparseWorld, given: JobConfig) -> dict[str, Choice]:
    """Level -> what becomes of it for the first layer."""
    with open_workspace(given, resume=False) as workspace:
        job = prepare_job(given, workspace, world.engines)
        choices = layer_choices(
            job.graph, load_space(given.space).levels, world.backend, job.target,
            exclude=given.exclude, keep=given.keep,
        )  # fmt: skip
        first = job.graph.layers[0].name
        found = without_losers(job, choices, known_atlas(job))
        return {str(c.level): c for c in found if c.layer.name == first}


def test_losers_are_refused_with_the_numbers(world: SparseWorld) -> None:
    run_atlas(world.atlas_config(), world.engines)
    found = judged(world, config(world))
    refused = {level: choice.reason for level, choice in found.items() if not choice.runs}
    first = world.world.layers[0]
    assert refused == {
        "unstructured@0.5:fp32+sparsegpt":
            f"{first}: in the atlas unstructured@0.5:fp32 takes 80.0 us, and dense:int8 40.0 us",
        "block1x4@0.5:int8+magnitude":
            f"{first}: in the atlas block1x4@0.5:int8 takes 60.0 us, and dense:int8 40.0 us",
    }  # fmt: skip
    assert world.progress.told[-1].endswith("spares 6 measurements of sparse levels")


def test_a_job_does_not_measure_them_again(world: SparseWorld) -> None:
    run_atlas(world.atlas_config(), world.engines)
    seen: set[str] = set()

    def watch(files: Mapping[str, LoweredModel]) -> None:
        if "uniform" in files:
            seen.update(files["uniform"].path.read_text().replace('"', " ").split())

    world.lane.fail = watch
    run_job(config(world, trials=4), world.engines)
    assert not [word for word in seen if word.startswith(("unstructured@0.5", "block"))]
    assert [word for word in seen if word.startswith("2:4")]


def test_only_the_dense_levels_that_may_be_chosen_count(world: SparseWorld) -> None:
    run_atlas(world.atlas_config(), world.engines)
    (world.world.root / "space.yaml").write_text(
        "schema_version: 1\ndescription: no int8\nlevels:\n"
        + "".join(f"  - {level}\n" for level in LEVELS[1:])
    )
    found = judged(world, config(world))
    assert all(choice.runs for choice in found.values())  # all of them beat dense fp32


def test_a_model_that_came_sparse_keeps_its_zeros(world: SparseWorld) -> None:
    run_atlas(world.atlas_config(), world.engines)
    path = world.world.root / "model.onnx"
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor).copy()
        weight[np.abs(weight) < np.quantile(np.abs(weight), 0.6)] = 0.0
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, str(path))
    found = judged(world, config(world))
    assert found["unstructured@0.5:fp32+sparsegpt"].runs


def test_an_atlas_of_another_place_spares_nothing(world: SparseWorld) -> None:
    run_atlas(world.atlas_config(threads=2), world.engines)
    assert all(choice.runs for choice in judged(world, config(world)).values())
    assert "knows nothing of this environment and target" in world.progress.told[-1]


def test_a_directory_without_an_atlas_is_told(world: SparseWorld) -> None:
    with pytest.raises(ConfigError, match="there is no atlas in"):
        run_job(config(world), world.engines)
    assert world.lane.measured == []
