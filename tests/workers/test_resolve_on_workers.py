"""Another budget is answered with the workers, and on the lane, that the job had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import autosparse
import workers.resolve
from autosparse.errors import ConfigError
from autosparse.evaluation import Verdict
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.progress import Progress
from autosparse.pipeline.workspace import Workspace
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error

CLUSTER = "10.0.0.1:6379"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A job that ran on two workers of a cluster."""
    made = World.make(tmp_path, 4, Planted(layer_seconds, summed_error({"layer1": 0.5})))
    made.run(trials=6, latency_budget="80%", workers=2, ray_address=CLUSTER)
    return made


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> list[JobConfig]:
    """What engines were asked for."""
    seen: list[JobConfig] = []

    @contextmanager
    def engines_of(config: JobConfig, progress: Progress) -> Iterator[Engines]:
        seen.append(config)
        yield replace(world.engines(), progress=progress)

    monkeypatch.setattr(workers.resolve, "engines_of", engines_of)
    return seen


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (2, CLUSTER)),
        ({"workers": 3}, (3, CLUSTER)),
        ({"workers": 0}, (0, None)),
        ({"ray_address": "10.0.0.2:6379"}, (2, "10.0.0.2:6379")),
    ],
)
def test_it_works_with_what_the_job_had_unless_it_is_told_otherwise(
    world: World,
    asked: list[JobConfig],
    fields: dict[str, Any],
    expected: tuple[int, str | None],
) -> None:
    new = world.root / "new"
    found = autosparse.resolve(world.root / "out", latency_budget="61%", output_dir=new, **fields)
    assert found.verdict is Verdict.MET
    stored = JobConfig.model_validate_json(Workspace(new).config.read_bytes())
    assert [(c.workers, c.ray_address) for c in (*asked, stored)] == [expected] * 2


def test_a_cluster_without_workers_is_refused(world: World, asked: list[JobConfig]) -> None:
    with pytest.raises(ConfigError, match="--ray-address joins a cluster for workers"):
        autosparse.resolve(world.root / "out", workers=0, ray_address=CLUSTER)
    assert asked == []
