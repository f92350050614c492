"""A ladder: jobs for several targets and budgets in planted worlds, and what they do once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.artifacts.ladder_page import LADDER_FILE, LADDER_PAGE, LadderList
from autosparse.calibration import ActivationRanges, Range
from autosparse.errors import ConfigError, StorageError, UserInputError, WorkerError
from autosparse.evaluation import LoweredModel, Verdict
from autosparse.levels import Knobs, Level, Recipe
from autosparse.levels.table import Cell, WeightFiles, read_cells
from autosparse.pipeline.building import AloneAtLevel, Compress
from autosparse.pipeline.config import read_configs
from autosparse.pipeline.donor import Donor
from autosparse.pipeline.ladder import Ladder, job_name
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.optimize import run_job
from autosparse.pipeline.source_job import find_source
from autosparse.pipeline.workspace import Workspace
from tests.fakes.fake_backend import is_int8
from tests.fakes.fake_lane import Killed
from tests.pipeline.devices import DEVICES, DeviceBench
from tests.pipeline.worlds import World
from workers.local import run as run_locally


@pytest.fixture
def bench(tmp_path: Path) -> DeviceBench:
    return DeviceBench(World.make(tmp_path, 4, DEVICES["desk"]))


def listing(bench: DeviceBench) -> LadderList:
    return LadderList.model_validate_json((bench.world.root / "out" / LADDER_FILE).read_bytes())


def in_fp32(bundle: str) -> set[str]:
    levels = Recipe.load(Path(bundle) / "recipe.yaml").levels
    return {name for name, level in levels.items() if not is_int8(level)}


def trials(root: Path) -> list[str]:
    return [record.recipe.id for record in Ledger(Workspace(root).study).records]


def cells(root: Path) -> dict[tuple[str, str], Cell]:
    (table,) = Workspace(root).table.iterdir()
    return {(cell.layer, str(cell.level)): cell for cell in read_cells(table)}


def test_each_budget_has_its_own_answer_from_the_same_evidence(bench: DeviceBench) -> None:
    ladder = bench.run(latency_budget=["75%", "45%"], time_limit=100)
    # the time is that of all of them
    assert [answer.config.time_limit for answer in ladder.answers] == [50, 50]
    loose, tight = (answer.result for answer in ladder.answers)
    assert loose is not None
    assert tight is not None
    assert (loose.verdict, tight.verdict, ladder.exit_code) == (Verdict.MET, Verdict.MET, 0)
    # of four layers, as many stay as they came as there is time for: those that lose most
    assert in_fp32(loose.bundle) == {"layer1", "layer3"}
    assert in_fp32(tight.bundle) == set()
    root = bench.world.root / "out"
    contracts = [check_bundle(root / a.name / "bundle").contract for a in ladder.answers]
    assert [contract.budget.amount for contract in contracts] == [75, 45]
    # nothing is compressed, evaluated alone or timed a second time
    assert bench.pools["this-machine-75pct"].tasks
    again = bench.pools["this-machine-45pct"].tasks
    assert not [task for task in again if isinstance(task, Compress | AloneAtLevel)]
    known = set(trials(root / "this-machine-75pct"))
    measured = set(bench.lanes["this-machine-45pct"].measured)
    assert measured & known <= {tight.manifest.recipe_id}
    assert known <= set(trials(root / "this-machine-45pct"))
    assert any("answered from the job in this-machine-75pct" in note for note in bench.told.told)


def test_each_target_has_its_own_latencies_and_all_have_the_same_weights(
    bench: DeviceBench,
) -> None:
    ladder = bench.run(target=[bench.target("desk"), bench.target("board")], latency_budget="75%")
    desk, board = (answer.result for answer in ladder.answers)
    assert desk is not None
    assert board is not None
    assert in_fp32(desk.bundle) == {"layer1", "layer3"}
    # on the board, layer0 has nothing to give
    assert in_fp32(board.bundle) == {"layer0", "layer1"}
    assert board.manifest.latency.baseline_p50 == pytest.approx(1.2e-3)
    assert desk.manifest.environment != board.manifest.environment
    compressed = [t for t in bench.pools["board-75pct"].tasks if isinstance(t, Compress)]
    assert {str(task.level) for task in compressed} == {"dense:fp32"}
    assert not [t for t in bench.pools["board-75pct"].tasks if isinstance(t, AloneAtLevel)]
    out = bench.world.root / "out"
    theirs, mine = cells(out / "desk-75pct"), cells(out / "board-75pct")
    assert theirs.keys() == mine.keys()
    for key, cell in mine.items():
        assert cell.divergence == theirs[key].divergence
        assert cell.seconds != theirs[key].seconds
    assert "those of the job desk-75pct" in (out / "board-75pct/bundle/report.html").read_text()


def test_they_are_listed_side_by_side(bench: DeviceBench) -> None:
    ladder = bench.run(
        target=[bench.target("desk"), bench.target("board")], latency_budget=["75%", "5%"]
    )
    rows = listing(bench).jobs
    assert rows == ladder.listing.jobs
    names = ["desk-75pct", "desk-5pct", "board-75pct", "board-5pct"]
    assert [row.name for row in rows] == names
    infeasible = Verdict.LATENCY_INFEASIBLE
    assert [row.verdict for row in rows] == [Verdict.MET, infeasible, Verdict.MET, infeasible]
    assert ladder.exit_code == 3
    page = (bench.world.root / "out" / LADDER_PAGE).read_text()
    assert "2 of 4" in page
    for row in rows:
        assert (bench.world.root / "out" / str(row.bundle) / "report.html").is_file()
        assert f'href="{row.bundle}/report.html"' in page
    assert rows[2].latency_seconds == pytest.approx(840e-6)
    assert "0.840" in page


def away(files: Mapping[str, LoweredModel]) -> None:
    raise WorkerError("the agent at board did not answer", hint="start it")


def test_a_device_that_is_lost_leaves_the_others_their_answers(bench: DeviceBench) -> None:
    targets = [bench.target("board"), bench.target("desk")]
    bench.fail["board-75pct"] = away
    ladder = bench.run(target=targets, latency_budget="75%")
    assert [answer.result is None for answer in ladder.answers] == [True, False]
    assert ladder.exit_code == WorkerError.exit_code
    lost, met = listing(bench).jobs
    assert "did not answer" in lost.error
    assert met.verdict is Verdict.MET
    bench.fail.clear()
    assert bench.run(resume=True, target=targets, latency_budget="75%").exit_code == 0
    assert [row.verdict for row in listing(bench).jobs] == [Verdict.MET, Verdict.MET]


def test_where_no_job_has_an_answer_nothing_is_left(bench: DeviceBench) -> None:
    np.savez(bench.world.root / "calibration.npz", other=np.zeros((4, 8), np.float32))
    with pytest.raises(UserInputError, match="calibration"):
        bench.run(latency_budget=["75%", "45%"])
    assert not (bench.world.root / "out").exists()


def killed_and_resumed(bench: DeviceBench, killed: str, after: int) -> Ladder:
    """A ladder on two devices that was killed within one of its jobs, to its end."""
    left = [after]

    def kill(files: Mapping[str, LoweredModel]) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    fields: dict[str, Any] = {
        "target": [bench.target("desk"), bench.target("board")],
        "latency_budget": ["75%", "45%"],
    }
    bench.fail[killed] = kill
    with pytest.raises(Killed):
        bench.run(**fields)
    before = {row.name: row.verdict for row in listing(bench).jobs}
    root = bench.world.root / "out"
    done = {row: trials(root / row) for row, verdict in before.items() if verdict}
    bench.fail.clear()
    ladder = bench.run(resume=True, **fields)
    assert [answer.result is not None for answer in ladder.answers] == [True] * 4
    for name, known in done.items():
        assert trials(root / name) == known
    for answer in ladder.answers:
        mine = trials(root / answer.name)
        assert len(mine) == len(set(mine))
        assert check_bundle(root / answer.name / "bundle").verdict is not None
    return ladder


def test_a_killed_ladder_goes_on_where_it_was(bench: DeviceBench) -> None:
    ladder = killed_and_resumed(bench, "desk-45pct", 1)
    # the board is not that fast
    infeasible = [row.name for row in ladder.listing.jobs if row.verdict is not Verdict.MET]
    assert infeasible == ["board-45pct"]


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["desk-75pct", "board-75pct"])
def test_it_comes_to_what_it_would_have_come_to(bench: DeviceBench, killed: str) -> None:
    ladder = killed_and_resumed(bench, killed, 4)
    fresh = DeviceBench(World.make(bench.world.root / "again", 4, DEVICES["desk"]))
    targets = [fresh.target("desk"), fresh.target("board")]
    other = fresh.run(target=targets, latency_budget=["75%", "45%"])
    assert [row.recipe_id for row in other.listing.jobs] == [
        row.recipe_id for row in ladder.listing.jobs
    ]


@pytest.mark.slow
def test_a_ladder_may_grow(bench: DeviceBench) -> None:
    bench.run(latency_budget=["75%", "45%"])
    root = bench.world.root / "out"
    before = trials(root / "this-machine-75pct")
    ladder = bench.run(resume=True, latency_budget=["75%", "45%", "60%"])
    assert [row.verdict for row in ladder.listing.jobs] == [Verdict.MET] * 3
    assert trials(root / "this-machine-75pct") == before


@pytest.mark.slow
def test_what_is_about_other_data_gives_nothing(bench: DeviceBench) -> None:
    """A file may be replaced while a ladder runs."""
    bench.run(target=bench.target("desk"), latency_budget=["75%", "45%"])
    rows = np.load(bench.world.root / "calibration.npz")["x"]
    np.savez(bench.world.root / "calibration.npz", x=rows[:16])
    desk = find_source(bench.world.root / "out" / "desk-75pct")
    config = bench.world.config(
        target=bench.target("board"), max_drop="50pt", trials=8, output_dir=bench.world.root / "new"
    )
    with bench.engines_on(config) as engines:
        assert run_job(config, engines, beside=desk).verdict is Verdict.MET
    compressed = [task for task in bench.pools["new"].tasks if isinstance(task, Compress)]
    assert any(is_int8(task.level) for task in compressed)


def test_where_it_may_not_lie(bench: DeviceBench, tmp_path: Path) -> None:
    budgets: dict[str, Any] = {"latency_budget": ["75%", "45%"]}
    bench.run(**budgets)
    with pytest.raises(StorageError, match="not empty"):
        bench.run(**budgets)
    with pytest.raises(ConfigError, match="holds a ladder"):
        run_locally(bench.world.config(), bench.told, resume=True)
    single = tmp_path / "single"
    bench.world.run(output_dir=single)
    with pytest.raises(StorageError, match="a job on one target and budget"):
        bench.run(resume=True, output_dir=single, **budgets)


def test_what_is_no_ladder(bench: DeviceBench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="45% is given twice"):
        bench.run(latency_budget=["75%", "45%", "45%"])
    with pytest.raises(ConfigError, match="would be called this-machine-45pct"):
        bench.run(latency_budget=["45%", "45.0%"])
    with pytest.raises(ConfigError, match="need a backend each"):
        bench.run(latency_budget=["75%", "45%"], backend="auto")
    with pytest.raises(ConfigError, match="no latency"):
        bench.run(latency_budget=["75%", "fast"])
    with pytest.raises(ConfigError, match="cannot read the target"):
        bench.run(target=[str(tmp_path / "gone.yaml"), bench.target("desk")])
    assert not (bench.world.root / "out").exists()


def test_names_and_shares(tmp_path: Path) -> None:
    given = {"model": "m.onnx", "calibration": "c.npz", "validation": "v.npz"}
    document = tmp_path / "job.yaml"
    document.write_text(
        "target: [boards/pi 5.yaml, 'rpc://10.0.0.9:9190', 'sim://pixel-8']\n"
        "latency_budget: [8ms]\n",
        encoding="utf-8",
    )
    names = [job_name(config) for config in read_configs(given, document)]
    assert names == ["pi-5-8ms", "rpc-10.0.0.9-9190-8ms", "sim-pixel-8-8ms"]
    (one,) = read_configs({**given, "latency_budget": ["60%"], "target": []})
    assert job_name(one) == "this-machine-60pct"
    assert [c.latency_budget.amount for c in read_configs({**given, "latency_budget": "50%"})] == [
        50
    ]


def test_a_donor_of_another_kind_of_file_gives_its_weights_alone(bench: DeviceBench) -> None:
    """Other shapes: what was evaluated may be another file there."""
    board = Path(bench.target("board"))
    board.write_text("name: board\nbatch_size: 2\n", encoding="utf-8")
    bench.run(target=[bench.target("desk"), str(board)], latency_budget="75%")
    tasks = bench.pools["board-75pct"].tasks
    levels = {str(task.level) for task in tasks if isinstance(task, Compress)}
    assert levels == {"dense:fp32"}
    assert [task for task in tasks if isinstance(task, AloneAtLevel)]


def test_what_another_file_does_is_not_taken(tmp_path: Path) -> None:
    int8 = Level.parse("dense:int8+round_to_nearest")
    cell = Cell(layer="fc", level=int8, searched=True, divergence=0.1, file_bytes=10)
    ranges, knobs = ActivationRanges(tensors={"x": Range(low=-1.0, high=1.0)}), Knobs()
    donor = Donor("desk", {("fc", int8): cell}, WeightFiles(tmp_path), ranges, knobs)
    assert donor.alone(int8, ["fc", "other"], ranges, knobs, {}).keys() == {"fc"}
    planned = {("fc", int8.without_method()): "rows of 4"}
    other = ActivationRanges(tensors={"x": Range(low=0.0, high=1.0)})
    assert donor.alone(int8, ["fc"], other, knobs, {}) == {}
    assert donor.alone(int8, ["fc"], ranges, Knobs(activation_type="int8"), {}) == {}
    assert donor.alone(int8, ["fc"], ranges, knobs, planned) == {}
