"""A job that is ended at once leaves the best file that it has measured, and says what that is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.pipeline.best_so_far import (
    BEST_FILE,
    BestSoFar,
    best_directory,
    keep_only,
    read_best,
)
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.workspace import Workspace
from tests.pipeline.test_refuted_files import FlatteringLane
from tests.pipeline.worlds import World, odd_world


class KilledError(Exception):
    """In place of a kill."""


class Killed(Silent):
    """Ends the job when so many trials were told of, and sees what there was each time."""

    def __init__(self, workspace: Workspace, after: int) -> None:
        self.workspace = workspace
        self.after = after
        self.seen: list[tuple[str | None, str | None]] = []

    def trial(self, record: TrialRecord, best: TrialRecord | None) -> None:
        told = found(self.workspace)
        self.seen.append(
            (None if best is None else best.recipe.id, None if told is None else told.recipe_id)
        )
        if len(self.seen) == self.after:
            raise KilledError


class KilledAtTheEnd(Silent):
    """Ends the job where its answer would be verified."""

    def stage(self, name: str, detail: str = "") -> None:
        if name == "verify":
            raise KilledError


def found(workspace: Workspace) -> BestSoFar | None:
    directory = best_directory(workspace)
    return None if directory is None else read_best(directory)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return odd_world(tmp_path, 6)


def test_the_best_file_is_there_whenever_a_job_is_killed(world: World) -> None:
    workspace = Workspace(world.root / "out")
    killed = Killed(workspace, 6)
    with pytest.raises(KilledError):
        world.run(engines=replace(world.engines(), progress=killed))
    deliverable = [pair for pair in killed.seen if pair[0] is not None]
    assert deliverable, killed.seen
    assert all(best == told for best, told in deliverable)
    assert len({told for _, told in killed.seen}) > 1, "it never got better"
    directory, told = best_directory(workspace), found(workspace)
    assert directory is not None
    assert told is not None
    assert [path.name for path in workspace.best.iterdir()] == [told.recipe_id]
    for name, digest in told.files.items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
    assert {*told.files, BEST_FILE} == {path.name for path in directory.iterdir()}
    trial = {t.recipe.id: t for t in Ledger(workspace.study).records}[told.recipe_id]
    assert (told.drop, told.latency_seconds) == (trial.evidence.drop, trial.latency_seconds)
    # the file is that recipe's: the fake backend writes the levels into it
    levels = {name: str(level) for name, level in trial.recipe.levels.items()}
    assert json.loads((directory / told.entry).read_text()) == levels
    assert not told.verified


def test_what_is_delivered_takes_its_place(world: World) -> None:
    workspace = Workspace(world.root / "out")
    with pytest.raises(KilledError):
        world.run(engines=replace(world.engines(), progress=Killed(workspace, 4)))
    assert found(workspace) is not None
    world.run(resume=True)
    assert found(workspace) is None
    assert (workspace.bundle / "model.onnx").is_file()


def test_another_budget_makes_another_file_the_best(world: World) -> None:
    """What was the best by the former contract is no answer by this one."""
    workspace = Workspace(world.root / "out")
    with pytest.raises(KilledError):
        world.run(engines=replace(world.engines(), progress=Killed(workspace, 6)))
    before = found(workspace)
    assert before is not None
    assert before.latency_ratio > 0.45
    with pytest.raises(KilledError):
        world.run(
            engines=replace(world.engines(), progress=KilledAtTheEnd()), resume=True,
            latency_budget="45%",
        )  # fmt: skip
    after = found(workspace)
    assert after is None or after.latency_ratio <= 0.45


def test_nothing_is_found_where_nothing_was_measured(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert best_directory(workspace) is None
    keep_only(workspace, None)
    (workspace.best / "half").mkdir(parents=True)
    assert best_directory(workspace) is None
    keep_only(workspace, None)
    assert list(workspace.best.iterdir()) == []


class LooksAtTheBundle(Silent):
    """Sees what there is when the answer has been decided."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.seen: list[BestSoFar | None] = []

    def stage(self, name: str, detail: str = "") -> None:
        if name == "bundle":
            self.seen.append(found(self.workspace))


def test_what_a_verification_refuted_is_no_best_file_any_more(world: World) -> None:
    """It says that nobody verified it, which is not true then."""
    looks = LooksAtTheBundle(Workspace(world.root / "out"))
    lane = FlatteringLane(world.planted, world.layers, later=1.5)
    world.run(engines=replace(world.engines(), lane=lane, progress=looks))
    assert looks.seen == [None]
