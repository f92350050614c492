"""Few rows prove little: `--strict` does not pass on them, and the user is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.evaluation import Verdict
from autosparse.pipeline.optimize import Result
from tests.fakes.fake_backend import Planted
from tests.pipeline.sparse_world import Notes
from tests.pipeline.worlds import World, layer_seconds, summed_error


def run(root: Path, rows: int, told: Notes, **fields: Any) -> Result:
    """Of files that answer every row as the dense model does."""
    world = World.make(root, 2, Planted(layer_seconds, summed_error({})))
    with np.load(root / "validation.npz") as file:
        few = {name: file[name][:rows] for name in file.files}
    np.savez(root / "validation.npz", **few)
    engines = replace(world.engines(), progress=told)
    return world.run(engines=engines, trials=1, **fields)


@pytest.mark.parametrize(
    ("max_drop", "verdict"), [("4pt", Verdict.MET), ("3pt", Verdict.NOT_FOUND)]
)
def test_strict_needs_rows_and_not_only_equal_answers(
    tmp_path: Path, max_drop: str, verdict: Verdict
) -> None:
    """Of 100 rows that gate, 3.7 points may be lost with none answered otherwise."""
    told = Notes()
    result = run(tmp_path, 200, told, strict=True, max_drop=max_drop)
    assert result.verdict is verdict
    assert result.manifest.quality.drop == 0.0
    is_told = any("--strict can hardly be kept" in note for note in told.told)
    assert is_told is (verdict is not Verdict.MET)


def test_a_drop_that_is_less_than_a_row_is_told_as_such(tmp_path: Path) -> None:
    told = Notes()
    result = run(tmp_path, 20, told, max_drop="1pt")
    assert result.verdict is Verdict.MET
    (note,) = [note for note in told.told if "a single row is more" in note]
    assert "judged on 10 rows, which show drops in steps of 0.1" in note
    assert "a validation file of 200 rows or more" in note
    assert "a single row is more" in Path(result.bundle, "report.html").read_text(encoding="utf-8")
