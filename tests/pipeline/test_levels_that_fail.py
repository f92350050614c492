"""A level that does not run is refused with its reason; the job goes on with the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.errors import CompileError, ConfigError, MeasurementError
from autosparse.evaluation import Capability, LoweredModel, Target, Verdict
from autosparse.levels import Level
from autosparse.levels.table import Cell
from autosparse.model_graph import Layer
from tests.fakes.fake_backend import FakeBackend, Levels, Planted, is_int8, read_levels
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.worlds import World, layer_seconds, summed_error


def int8_cells(root: Path) -> dict[str, Cell]:
    """Layer -> what the job's level table says of it at INT8."""
    (journal,) = (root / "out").rglob("cells.jsonl")
    lines = journal.read_text(encoding="utf-8").splitlines()
    cells = [Cell.model_validate_json(line) for line in lines]
    return {cell.layer: cell for cell in cells if is_int8(cell.level)}


def planted(broken: Callable[[Levels], str] = lambda levels: "") -> Planted:
    return Planted(layer_seconds, summed_error({}), broken=broken)


class Uninstalled(FakeBackend):
    """What it compiles with is not there."""

    def capability(self, layer: Layer, level: Level, target: Target) -> Capability:
        return Capability.no(f"{layer.name}: no C compiler was found")


def test_a_backend_that_runs_no_layer_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    world = World.make(tmp_path, 2, planted())
    lane = FakeLane(world.planted, world.layers)
    engines = replace(world.engines(), backend=Uninstalled(world.planted), lane=lane)
    with pytest.raises(ConfigError, match="runs no layer of the model here: layer0: no C compiler"):
        world.run(engines=engines)
    assert lane.measured == []


def test_a_layer_that_cannot_be_lowered_alone_costs_that_layer_only(tmp_path: Path) -> None:
    def broken(levels: Levels) -> str:
        return "layer1 has no such kernel" if is_int8(levels["layer1"]) else ""

    world = World.make(tmp_path, 5, planted(broken=broken))
    assert world.run(latency_budget="70%").verdict is Verdict.MET
    cells = int8_cells(tmp_path)
    assert [name for name, cell in cells.items() if not cell.searched] == ["layer1"]
    assert "no such kernel" in cells["layer1"].reason


def test_a_level_whose_file_cannot_be_lowered_is_refused(tmp_path: Path) -> None:
    """Alone every layer runs: there is no telling which of them it is."""

    def broken(levels: Levels) -> str:
        together = all(is_int8(level) for level in levels.values())
        return "too much at once" if together else ""

    world = World.make(tmp_path, 4, planted(broken=broken))
    assert world.run(latency_budget="70%").verdict is Verdict.LATENCY_INFEASIBLE
    cells = int8_cells(tmp_path)
    assert len(cells) == 4
    assert all(not c.searched and "too much at once" in c.reason for c in cells.values())


def test_a_level_whose_file_crashes_what_measures_is_refused(tmp_path: Path) -> None:
    world = World.make(tmp_path, 4, planted())

    def crash(files: Mapping[str, LoweredModel]) -> None:
        for model in files.values():
            levels = read_levels(model).values()
            if levels and all(map(is_int8, levels)):
                raise MeasurementError("the measuring process was killed by signal 11")

    result = world.run(engines=world.engines(fail=crash), latency_budget="70%")
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    assert all("signal 11" in cell.reason for cell in int8_cells(tmp_path).values())


def test_a_level_that_loses_the_outputs_is_refused_and_stays_so(tmp_path: Path) -> None:
    """Stored as no number, it would be read as no error at all."""

    def error(levels: Levels) -> float:
        return float("nan") if is_int8(levels["layer2"]) else 0.001

    world = World.make(tmp_path, 5, Planted(layer_seconds, error))
    assert world.run(latency_budget="80%").verdict is Verdict.MET
    cells = int8_cells(tmp_path)
    assert [name for name, cell in cells.items() if not cell.searched] == ["layer2"]
    assert "NaN or infinite" in cells["layer2"].reason


def test_where_the_fastest_levels_do_not_run_together_the_descent_begins_elsewhere(
    tmp_path: Path,
) -> None:
    world = World.make(tmp_path, 5, planted())

    def crash(files: Mapping[str, LoweredModel]) -> None:
        """All at once run beside the original only, as the level table times them."""
        for label, model in files.items():
            levels = read_levels(model).values()
            if label != "uniform" and levels and all(map(is_int8, levels)):
                raise MeasurementError("the measuring process was killed by signal 11")

    result = world.run(engines=world.engines(fail=crash), latency_budget="70%")
    assert result.verdict is Verdict.MET


def test_a_model_that_cannot_be_lowered_as_it_came_ends_the_job(tmp_path: Path) -> None:
    def broken(levels: Levels) -> str:
        return "" if any(map(is_int8, levels.values())) else "nothing runs here"

    world = World.make(tmp_path, 3, planted(broken=broken))
    with pytest.raises(CompileError, match="nothing runs here"):
        world.run()


def test_a_divergence_that_was_stored_as_null_is_not_taken_for_none(tmp_path: Path) -> None:
    """Earlier versions did: the level would look perfect in a job that is resumed."""
    world = World.make(tmp_path, 5, planted())
    world.run(trials=2)
    (journal,) = (tmp_path / "out").rglob("cells.jsonl")
    lines = journal.read_text(encoding="utf-8").splitlines()
    cells = [Cell.model_validate_json(line) for line in lines]
    lost = [c.model_copy(update={"divergence": None}) if is_int8(c.level) else c for c in cells]
    journal.write_text("".join(c.model_dump_json() + "\n" for c in lost), encoding="utf-8")
    world.run(trials=2, resume=True)
    assert all(cell.divergence is not None for cell in int8_cells(tmp_path).values())
