"""A job in the default space, killed once in every stage of it, ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.errors import CandidateError
from autosparse.evaluation import LoweredModel, Verdict
from autosparse.levels import Recipe
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.optimize import run_job
from autosparse.pipeline.pool import A, InProcess, K, Task, attempt
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.workspace import Workspace
from tests.fakes.fake_backend import Levels, Planted, is_int8
from tests.fakes.fake_lane import FakeLane, Killed
from tests.pipeline.sparse_world import SparseBackend, planted_seconds
from tests.pipeline.worlds import World

MOMENTS = (
    ("baseline", 1),
    ("early verdict", 4),
    # the pass over the data is gone with the process, and made again when GPTQ asks for it
    ("calibrate", 2),
    ("levels unstructured@0.9:fp32+alps", 5),
    ("starts", 8),
    ("search", 2),
    ("verify", 1),
)
"""Stage, and which of its tasks and measurements is the last thing that is begun."""


class Reaper(Silent):
    """Kills the job at one moment."""

    def __init__(self, moment: tuple[str, int] | None = None) -> None:
        self._moment = moment
        self._stage, self._begun = "", 0

    def stage(self, name: str, detail: str = "") -> None:
        self._stage, self._begun = f"{name} {detail}", 0

    def begins(self) -> None:
        """A task or a measurement does."""
        self._begun += 1
        if self._moment is not None:
            stage, number = self._moment
            if self._stage.startswith(stage) and self._begun == number:
                raise Killed


@dataclass
class Watched(InProcess):
    """Tells of every task."""

    reaper: Reaper

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        answers = []
        for task in tasks:
            self.reaper.begins()
            answers.append(attempt(task, kit))
        return answers


def error(levels: Levels) -> float:
    """What zeros do to the answers is worse than what integers do, and worst in the middle."""
    costs = {"layer0": 0.02, "layer1": 0.08, "layer2": 0.01}
    sparse = sum(costs[name] for name, level in levels.items() if level.sparsity)
    return sparse + sum(0.001 for level in levels.values() if is_int8(level))


PLANTED = Planted(planted_seconds, error)


def run(world: World, moment: tuple[str, int] | None = None, *, resume: bool = False) -> Verdict:
    reaper = Reaper(moment)

    def measured(files: Mapping[str, LoweredModel]) -> None:
        reaper.begins()

    lane = FakeLane(PLANTED, world.layers, fail=measured)
    engines = Engines(SparseBackend(PLANTED), lane, reaper, Watched(reaper))
    config = world.config(space="cpu", latency_budget="35%", max_drop="50pt", trials=6)
    assert config.space == JobConfig.model_fields["space"].default
    return run_job(config, engines, resume=resume).verdict


def found(world: World) -> tuple[list[str], Recipe]:
    """Trials in their order, and what was delivered."""
    workspace = Workspace(world.root / "out")
    trials = [record.recipe.id for record in Ledger(workspace.study).records]
    return trials, Recipe.load(workspace.bundle / "recipe.yaml")


def test_a_job_that_is_killed_in_every_stage_ends_like_one_that_is_not(tmp_path: Path) -> None:
    whole, killed = (World.make(tmp_path / name, 3, PLANTED) for name in ("whole", "killed"))
    assert run(whole) is Verdict.MET
    for moment in MOMENTS:
        with pytest.raises(Killed):
            run(killed, moment, resume=moment is not MOMENTS[0])
    assert run(killed, resume=True) is Verdict.MET
    assert found(killed) == found(whole)
    assert any(level.sparsity for level in found(whole)[1].levels.values())
    assert check_bundle(killed.root / "out" / "bundle").verdict is Verdict.MET
