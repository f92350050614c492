"""The level table: what was finished survives a kill, the last record of a cell counts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import AutoSparseError, StorageError
from autosparse.levels import BASELINE, Level
from autosparse.levels.table import Cell, LevelTable
from autosparse.levels.weights import CompressedWeight

INT8 = Level.parse("dense:int8+round_to_nearest")
WEIGHT = CompressedWeight.quantized(np.array([[1, 2]], np.int8), np.array([0.5], np.float32))


def cell(layer: str = "conv", level: Level = INT8, seconds: float | None = 1e-3) -> Cell:
    return Cell(layer=layer, level=level, searched=True, seconds=seconds)


def test_a_new_table_is_empty(tmp_path: Path) -> None:
    table = LevelTable(tmp_path / "table")
    assert table.cells() == ()
    assert table.find("conv", INT8) is None
    assert not table.has_weight("conv", INT8)


def test_cells_and_weights_are_there_after_reopening(tmp_path: Path) -> None:
    LevelTable(tmp_path).put(cell(), WEIGHT)
    table = LevelTable(tmp_path)
    assert table.cells() == (cell(),)
    np.testing.assert_array_equal(table.weight("conv", INT8).values, WEIGHT.values)


def test_cells_differ_by_layer_level_and_method(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    others = [
        cell("other"),
        cell(level=BASELINE),
        cell(level=Level.parse("dense:int8+gptq")),
        cell(level=INT8.without_method()),
    ]
    for one in (cell(), *others):
        table.put(one)
    assert table.cells() == (cell(), *others)
    assert table.cell("other", INT8) == others[0]


def test_the_last_record_of_a_cell_counts_in_its_first_place(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    for one in (cell(seconds=1.0), cell("other"), cell(seconds=2.0)):
        table.put(one)
    wanted = (cell(seconds=2.0), cell("other"))
    assert table.cells() == wanted
    assert LevelTable(tmp_path).cells() == wanted


def test_a_torn_last_line_costs_only_that_cell(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    table.put(cell("first"))
    table.put(cell("second"))
    path = tmp_path / "cells.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    table = LevelTable(tmp_path)
    assert table.cells() == (cell("first"),)
    table.put(cell("third"))
    assert LevelTable(tmp_path).cells() == (cell("first"), cell("third"))


def test_a_cell_that_was_written_has_its_weight(tmp_path: Path) -> None:
    """The weight's file is complete before the cell refers to it, so a kill leaves no orphan."""
    table = LevelTable(tmp_path)
    # a cell that cannot be written, for example for a full disk
    (tmp_path / "cells.jsonl").mkdir()
    with pytest.raises(StorageError):
        table.put(cell(), WEIGHT)
    assert table.find("conv", INT8) is None
    assert table.has_weight("conv", INT8)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_weight_that_cannot_be_written_leaves_no_cell(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    for path in (tmp_path / "weights").iterdir():
        path.unlink()
    (tmp_path / "weights").rmdir()
    with pytest.raises(StorageError, match="cannot write"):
        table.put(cell(), WEIGHT)
    assert LevelTable(tmp_path).cells() == ()


def test_a_weight_is_replaced_as_a_whole(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    table.put(cell(), WEIGHT)
    other = CompressedWeight(values=np.array([[7.0, 8.0]], np.float32))
    table.put(cell(), other)
    np.testing.assert_array_equal(LevelTable(tmp_path).weight("conv", INT8).values, other.values)
    assert len(list((tmp_path / "weights").iterdir())) == 1


def test_names_of_layers_never_become_paths(tmp_path: Path) -> None:
    table = LevelTable(tmp_path / "table")
    for name in ("../../outside", "/etc/passwd", "a/b", "\n", "x" * 5000, "a", "A"):
        table.put(cell(name), WEIGHT)
        assert table.has_weight(name, INT8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table"]
    assert len(list((tmp_path / "table" / "weights").iterdir())) == 7
    assert len(LevelTable(tmp_path / "table").cells()) == 7


def test_a_damaged_line_before_the_last_is_named(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    table.put(cell("first"))
    table.put(cell("second"))
    path = tmp_path / "cells.jsonl"
    path.write_text(path.read_text().replace("dense:int8", "dense:int9", 1))
    with pytest.raises(StorageError, match=r"line 1 of .*cells\.jsonl is damaged.*dense:int9"):
        LevelTable(tmp_path)


def test_asking_for_a_cell_that_was_not_built_is_our_own_mistake(tmp_path: Path) -> None:
    with pytest.raises(AutoSparseError, match="no cell for conv at dense:int8"):
        LevelTable(tmp_path).cell("conv", INT8)


def test_a_directory_that_cannot_be_made_is_the_users_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        LevelTable(tmp_path / "file" / "table")


def test_divergences_add_up_over_layers(tmp_path: Path) -> None:
    table = LevelTable(tmp_path)
    for layer, divergence in (("a", 0.25), ("b", 0.5), ("c", None)):
        table.put(cell(layer).model_copy(update={"divergence": divergence}))
    assert table.summed_divergence({"a": INT8, "b": INT8}) == 0.75
    assert table.summed_divergence({"b": INT8, "c": INT8}) == 0.5


def test_an_error_that_is_no_number_is_read_again(tmp_path: Path) -> None:
    """Also where an earlier version wrote null for it."""
    LevelTable(tmp_path).put(cell().model_copy(update={"weight_error": math.nan}))
    assert math.isnan(LevelTable(tmp_path).cell("conv", INT8).weight_error)
    journal = tmp_path / "cells.jsonl"
    text = journal.read_text(encoding="utf-8").replace('"weight_error":NaN', '"weight_error":null')
    assert "null" in text
    journal.write_text(text, encoding="utf-8")
    assert math.isnan(LevelTable(tmp_path).cell("conv", INT8).weight_error)
