"""The limit of the level table: what saves least for its bytes is left out, and says so."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import ConfigError
from autosparse.evaluation import Verdict
from autosparse.levels import BASELINE, Level
from autosparse.levels.table import Cell, LevelTable, read_cells
from autosparse.levels.weights import CompressedWeight
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.table_room import TableRoom
from tests.pipeline.sparse_world import SparseWorld

INT8 = Level.parse("dense:int8+round_to_nearest")
NM = Level.parse("2:4:int8+magnitude")
HALF = Level.parse("unstructured@0.50:fp32+magnitude")
MOST = Level.parse("unstructured@0.90:fp32+magnitude")


def weight(rows: int) -> CompressedWeight:
    """Random numbers: they take what they take, zipped or not."""
    drawn = np.random.default_rng(rows).standard_normal((rows, 64))
    return CompressedWeight(values=drawn.astype(np.float32))


def cell(level: Level, microseconds: float, divergence: float, layer: str = "a") -> Cell:
    return Cell(
        layer=layer, level=level, searched=True, seconds=microseconds * 1e-6, divergence=divergence
    )


def filled(room: TableRoom) -> None:
    room.put(cell(BASELINE, 100, 0.0), None)
    room.put(cell(INT8, 40, 0.01), weight(8))
    room.put(cell(NM, 30, 0.03), weight(8))  # outrun by HALF, which is nearer and faster
    room.put(cell(HALF, 20, 0.02), weight(32))  # saves 20 us for four times the bytes
    room.put(cell(MOST, 10, 0.5), weight(8))  # saves 10 us


NEEDED = frozenset({("a", INT8)})


def test_what_saves_least_for_its_bytes_goes_first(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    filled(TableRoom(table, math.inf))
    sizes = {level: table.bytes_of("a", level) for level in (INT8, NM, HALF, MOST)}
    assert table.weight_bytes == sum(sizes.values())
    gone: list[Level] = []
    for level in (NM, HALF, MOST):
        TableRoom(table, table.weight_bytes - 1, "9kB", NEEDED).make()
        gone.append(level)
        assert {c.level for c in table.cells() if c.no_room} == set(gone)
        assert not any(table.has_weight("a", dropped) for dropped in gone)
    assert table.weight_bytes == sizes[INT8]
    assert table.weight("a", INT8).values.shape == (8, 64)
    reasons = {c.level: c.reason for c in table.cells() if not c.searched}
    assert "no room in the level table, which --table-limit 9kB bounds" in reasons[NM]
    assert "saves nothing over another level" in reasons[NM]
    assert "saves 20.0 us" in reasons[HALF]
    assert LevelTable(tmp_path).cells() == table.cells()


@pytest.mark.parametrize("order", [1, -1])
def test_the_limit_holds_while_a_table_is_filled(tmp_path: Path, order: int) -> None:
    """Whether a level comes early or late, the best ones are what stays."""
    table = LevelTable(tmp_path)
    weight(8).save(tmp_path / "one.npz")
    limit = 3.5 * (tmp_path / "one.npz").stat().st_size
    room = TableRoom(table, limit, "7kB", frozenset())
    speeds = list(range(1, 11))[::order]
    for number in speeds:
        room.put(cell(BASELINE, 100, 0.0, f"layer{number}"), None)
        room.put(cell(MOST, 100 - number, 0.1, f"layer{number}"), weight(8))
        assert table.weight_bytes <= limit
    kept = {c.layer for c in table.cells() if c.searched and c.level == MOST}
    assert kept == {"layer10", "layer9", "layer8"}


def test_what_an_answer_needs_has_room_or_the_limit_is_refused(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    room = TableRoom(table, 100, "100B", NEEDED)
    room.put(cell(BASELINE, 100, 0.0), None)
    with pytest.raises(ConfigError, match=r"--table-limit 100B has no room for .* plain INT8"):
        room.put(cell(INT8, 40, 0.01), weight(8))
    assert table.has_weight("a", INT8)


def test_a_kill_between_the_record_and_the_file_leaves_no_weight_behind(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    filled(TableRoom(table, math.inf))
    reason = "a: it was outrun"
    table.put(table.cell("a", NM).model_copy(update={"searched": False, "reason": reason}))
    again = LevelTable(tmp_path)
    TableRoom(again, again.weight_bytes - 1, "9kB", NEEDED).make()
    assert not again.has_weight("a", NM)
    assert again.has_weight("a", HALF)
    assert again.cell("a", NM).reason == reason
    assert not again.cell("a", NM).no_room


SPACE = f"""schema_version: 1
description: Dense INT8, and two sparse levels of which one outruns the other.
levels: ["{INT8}", "{NM}", "{MOST}"]
"""


def run(root: Path, *, resume: bool = False, table_limit: str | None = None) -> Result:
    planted = SparseWorld.make(root)
    space = root / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    return planted.world.run(
        engines=planted.engines, trials=3, space=str(space), resume=resume, table_limit=table_limit
    )


def stored(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (root / "out").rglob("weights/*.npz")}


def test_a_job_keeps_its_limit_and_goes_on_with_it(tmp_path: Path) -> None:
    run(tmp_path / "all")
    taken = sum(stored(tmp_path / "all").values())
    limit, root = f"{taken - 1}B", tmp_path / "less"
    result = run(root, table_limit=limit)
    assert result.verdict is Verdict.MET
    files = stored(root)
    assert sum(files.values()) < taken
    (journal,) = (root / "out").rglob("cells.jsonl")
    left_out = [c for c in read_cells(journal.parent) if c.no_room]
    assert left_out
    assert {c.level for c in left_out} == {NM}  # MOST is as near, and faster
    report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
    assert f"{len(left_out)} of 12 cells of the level table were left out" in report
    assert "has no room in the level table" in report
    before = journal.read_bytes()
    assert run(root, resume=True, table_limit=limit).verdict is Verdict.MET
    assert (stored(root), journal.read_bytes()) == (files, before)
    with pytest.raises(ConfigError, match="was started with another --table-limit"):
        run(root, resume=True)
