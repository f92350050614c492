"""A job on workers finds what it finds without them, and asks them for what takes the time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autosparse.calibration import NO_STATISTICS
from autosparse.errors import CandidateError, CompileError
from autosparse.evaluation import Verdict
from autosparse.journal import Journal
from autosparse.levels import Level
from autosparse.model_graph import Layer
from autosparse.pipeline.building import Compress
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.pool import InProcess, LongTask, Pool, Task, attempt, expected
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from tests.fakes.fake_backend import Levels, Planted, is_int8
from tests.fakes.fake_pool import FakePool
from tests.pipeline.worlds import World, layer_seconds, summed_error

ERRORS = {f"layer{i}": e for i, e in enumerate((0.01, 0.2, 0.03, 0.15, 0.02, 0.08))}


def searched(root: Path, pool: Pool, **fields: Any) -> tuple[list[str], list[str], str]:
    """Trials, candidates with their divergence, and the delivered recipe."""
    world = World.make(root, 6, Planted(layer_seconds, summed_error(ERRORS)))
    engines = replace(world.engines(noise=0.01), pool=pool)
    world.run(engines=engines, latency_budget="75%", max_drop="50pt", **fields)
    workspace = Workspace(root / "out")
    candidates = Journal(workspace.candidates, CandidateRecord).records
    return (
        [record.recipe.id for record in Ledger(workspace.study).records],
        [f"{r.recipe.id} {r.rung} {r.divergence}" for r in candidates],
        (workspace.bundle / "recipe.yaml").read_text(),
    )


@pytest.mark.parametrize("strategy", ["evolution", "nsga2"])
def test_any_number_of_workers_finds_the_same(tmp_path: Path, strategy: str) -> None:
    here = searched(tmp_path / "here", InProcess(), strategy=strategy)
    for workers in (1, 3):
        pool = FakePool(workers)
        assert searched(tmp_path / str(workers), pool, strategy=strategy) == here
    assert set(pool.asked) == {"Compress", "AloneAtLevel", "FewRows", "AllRows"}
    assert pool.most_at_once >= 4


def test_workers_that_do_not_see_the_disk_find_the_same(tmp_path: Path) -> None:
    here = searched(tmp_path / "here", InProcess())
    assert searched(tmp_path / "there", FakePool(2, sees_files=False)) == here


def test_a_candidate_that_fails_on_a_worker_is_marked_with_its_reason(tmp_path: Path) -> None:
    def broken(levels: Levels) -> str:
        several = sum(is_int8(level) for level in levels.values()) > 1
        return "the planted compiler fails" if several and not is_int8(levels["layer2"]) else ""

    planted = Planted(layer_seconds, summed_error(ERRORS), broken=broken)
    world = World.make(tmp_path, 6, planted)
    engines = replace(world.engines(), pool=FakePool(2))
    result = world.run(engines=engines, latency_budget="75%", max_drop="50pt")
    assert result.verdict is Verdict.MET
    records = Journal(Workspace(tmp_path / "out").candidates, CandidateRecord).records
    failed = [record for record in records if record.rung is Rung.FAILED]
    assert failed
    assert {record.reason for record in failed} == {"the planted compiler fails"}


@pytest.mark.parametrize(("width", "seconds"), [(8, 1.0), (1536, 1536 * 2 / 3)])
def test_a_layer_may_take_as_long_as_its_method_does(width: int, seconds: float) -> None:
    """Two thirds of a second for each output with 1536 inputs, says the card of `gqsa`."""
    layer = Layer("fc", "fc", "Gemm", "x", "y", "w", (width, width), bias=None)
    task = Compress(layer, Level.parse("block1x4@0.75:int8+gqsa"), NO_STATISTICS)
    assert isinstance(task, LongTask)
    assert task.limit_seconds > max(10 * seconds, 900.0)


class Nowhere:
    """A kit that nobody looks at."""

    files = Path("/nowhere")

    def at(self, files: Path) -> Nowhere:
        return self

    def loaded(self) -> Nowhere:
        return self


def raising(error: Exception) -> Task[Nowhere, int]:
    def task(kit: Nowhere, /) -> int:
        raise error

    return task


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")],
)
def test_a_lack_of_memory_fails_one_candidate(error: Exception) -> None:
    (answer,) = InProcess().run(Nowhere(), [raising(error)])
    assert isinstance(answer, CandidateError)
    assert "more memory than there is" in str(answer)


def test_what_is_unexpected_is_no_answer() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        attempt(raising(RuntimeError("a bug")), Nowhere())
    with pytest.raises(CompileError):
        expected(attempt(raising(CompileError("no")), Nowhere()))
