"""A candidate that wanted more memory than there was: failed, and tried once more by --resume."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autosparse.errors import CandidateError, NoMemoryError
from autosparse.evaluation import Verdict
from autosparse.journal import read_journal
from autosparse.levels import Recipe
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.pool import A, InProcess, K, Task, attempt
from autosparse.pipeline.scoring import FewRows
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from tests.fakes.fake_backend import Planted, is_int8
from tests.pipeline.worlds import World, layer_seconds, summed_error


def is_wholly_int8(recipe: Recipe) -> bool:
    return all(is_int8(level) for level in recipe.levels.values())


@dataclass
class ShortOfMemory(InProcess):
    """The recipe with every layer in int8 has too little."""

    is_short: bool = True
    tried: int = 0

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        return [self._answer(kit, task) for task in tasks]

    def _answer(self, kit: Any, task: Any) -> Any:
        if not isinstance(task, FewRows) or not is_wholly_int8(task.recipe):
            return attempt(task, kit)
        self.tried += 1
        return NoMemoryError("no room") if self.is_short else attempt(task, kit)


def run(world: World, pool: ShortOfMemory, *, resume: bool = False) -> Result:
    engines = replace(world.engines(), pool=pool)
    return world.run(engines=engines, resume=resume, trials=6, max_drop="50pt")


def world_of(root: Path) -> World:
    return World.make(root, 3, Planted(layer_seconds, summed_error({})))


def failures(world: World) -> list[CandidateRecord]:
    log = read_journal(Workspace(world.root / "out").candidates, CandidateRecord)
    return [record for record in log if record.rung is Rung.FAILED]


def test_one_that_had_no_room_is_tried_again_when_there_is_some(tmp_path: Path) -> None:
    world, pool = world_of(tmp_path), ShortOfMemory()
    result = run(world, pool)
    assert result.verdict is Verdict.MET
    assert pool.tried == 1
    (failed,) = failures(world)
    assert failed.no_memory
    assert failed.reason == "no room"
    pool.is_short = False
    run(world, pool, resume=True)
    assert pool.tried == 2
    trials = Ledger(Workspace(world.root / "out").study).records
    assert any(is_wholly_int8(record.recipe) for record in trials)


def test_one_that_never_has_room_is_tried_twice_at_most(tmp_path: Path) -> None:
    world, pool = world_of(tmp_path), ShortOfMemory()
    run(world, pool)
    for _ in range(2):
        run(world, pool, resume=True)
        assert pool.tried == 2
    assert len(failures(world)) == 2
