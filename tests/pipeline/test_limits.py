"""What bounds a job: its trials and its time. There is an answer whichever ends first."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from autosparse.evaluation import Verdict
from autosparse.levels import Level
from autosparse.levels.table import LevelTable
from autosparse.pipeline.job import Job
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.workspace import Workspace
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error


@dataclass
class Told(Silent):
    """Remembers stages and notes."""

    stages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def stage(self, name: str, detail: str = "") -> None:
        self.stages.append(name)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path, 6, Planted(layer_seconds, summed_error({})))


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is up from the start, whatever the limit."""
    monkeypatch.setattr(Job, "elapsed", property(lambda job: 1e9))


@pytest.mark.parametrize("trials", [1, 2, 3, 5])
def test_the_first_trials_count(world: World, trials: int) -> None:
    result = world.run(trials=trials)
    assert result.manifest.search.trials == trials
    assert result.verdict is Verdict.MET


def test_what_was_tried_before_counts_on_resume(world: World) -> None:
    world.run(trials=3)
    world.run(trials=3, resume=True)
    assert len(Ledger(Workspace(world.root / "out").study).records) == 3
    world.run(trials=4, resume=True)
    assert len(Ledger(Workspace(world.root / "out").study).records) == 4


@pytest.mark.usefixtures("no_time")
def test_without_time_the_best_of_the_first_trials_is_delivered(world: World, told: Told) -> None:
    result = world.run(engines=replace(world.engines(), progress=told))
    assert result.verdict is Verdict.MET
    assert result.manifest.search.trials <= 2
    assert "search" not in told.stages
    assert "predictor" not in told.stages
    (note,) = (n for n in told.notes if n.startswith("the time limit of 1800 s was used up"))
    assert note in Path(result.bundle, "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_time")
def test_without_time_no_budget_is_called_infeasible(world: World) -> None:
    """Nobody looked for the fastest recipe long enough to say that there is none, or is one."""
    result = world.run(latency_budget="30%")
    assert result.verdict is Verdict.NOT_FOUND
    report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
    assert "The budget can be met" not in report
    assert "No file inside the budget was found" in report


def test_without_time_only_indispensable_levels_are_built(
    world: World, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = ("layer0=dense:int8+gptq",)
    with monkeypatch.context() as patch:
        patch.setattr(Job, "elapsed", property(lambda job: 1e9))
        engines = replace(world.engines(), progress=told)
        result = world.run(engines=engines, space="cpu", keep=keep)
    assert result.verdict is Verdict.MET
    built = {"dense:fp32", "dense:int8+round_to_nearest", "dense:int8+gptq"}
    assert levels_in_table(world) == built
    world.run(space="cpu", keep=keep, resume=True)
    assert levels_in_table(world) > built


def levels_in_table(world: World) -> set[str]:
    (directory,) = Workspace(world.root / "out").table.iterdir()
    return {str(cell.level) for cell in LevelTable(directory).cells()}


def test_a_faster_file_that_is_as_good_is_named(world: World) -> None:
    """The budget leaves room for fp32, which brings nothing that the metric can see."""
    result = world.run(latency_budget="95%", max_drop="50pt")
    report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
    assert result.manifest.latency.ratio > 0.41
    assert "a faster file with the same measured drop exists: recipe " in report
    assert "takes 40.0% of the baseline" in report
    assert "ask for --latency-budget 40% with `autosparse resolve`" in report


def test_no_faster_file_is_named_where_the_fastest_is_delivered(world: World) -> None:
    result = world.run(latency_budget="41%", max_drop="50pt")
    report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
    assert "a faster file" not in report


def test_an_infeasible_job_announces_no_search(world: World, told: Told) -> None:
    result = world.run(engines=replace(world.engines(), progress=told), latency_budget="30%")
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    assert "starts" in told.stages
    assert "search" not in told.stages


def test_a_search_is_announced_once(world: World, told: Told) -> None:
    world.run(engines=replace(world.engines(), progress=told))
    assert told.stages.count("search") == 1


def test_the_fastest_recipe_is_tried_first(world: World) -> None:
    """Whatever ends the job, the one most likely to meet the budget was tried."""
    world.run(trials=1)
    (record,) = Ledger(Workspace(world.root / "out").study).records
    assert {level.without_method() for level in record.recipe.levels.values()} == {
        Level.parse("dense:int8")
    }
