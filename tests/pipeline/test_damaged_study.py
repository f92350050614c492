"""A study that something else wrote to, or that a disk has damaged: told, not stumbled over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from autosparse.errors import StorageError
from autosparse.pipeline.ledger import STUDY_NAME, Ledger
from autosparse.pipeline.workspace import Workspace
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World.make(tmp_path_factory.mktemp("world"), 3, Planted(layer_seconds, summed_error({})))
    made.run(latency_budget="65%", trials=4)
    return made


@pytest.fixture
def study(finished: World, tmp_path: Path) -> Path:
    """A copy of a finished job's study."""
    return Path(shutil.copy(Workspace(finished.root / "out").study, tmp_path / "study.journal"))


def replace_line(path: Path, index: int, line: bytes) -> int:
    """Put something else in the place of a line; its number, from 1 on."""
    lines = path.read_bytes().splitlines()
    number = range(len(lines))[index] + 1
    lines[index] = line
    path.write_bytes(b"".join(each + b"\n" for each in lines))
    return number


def added_by_hand(path: Path, **attributes: object) -> None:
    """A finished trial that somebody added with Optuna."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    trial = create_trial(
        state=TrialState.COMPLETE, values=[0.0, 0.1], user_attrs=dict(attributes),
        constraints={"latency": -1.0},
    )  # fmt: skip
    optuna.load_study(study_name=STUDY_NAME, storage=storage).add_trial(trial)


@pytest.mark.parametrize("index", [0, 1, -1])
@pytest.mark.parametrize("line", [b'{"op_code": 4, "st', b"\xff\xfe\x00", b""])
def test_a_damaged_line_is_told_by_its_number(study: Path, index: int, line: bytes) -> None:
    number = replace_line(study, index, line)
    before = study.read_bytes()
    with pytest.raises(
        StorageError, match=rf"line {number} of .*study\.journal is damaged"
    ) as told:
        Ledger(study)
    assert told.value.exit_code == 2
    assert "another output directory" in (told.value.hint or "")
    assert study.read_bytes() == before


@pytest.mark.parametrize("line", [{}, {"op_code": 99}, 5])
def test_a_line_of_something_else_is_told(study: Path, line: object) -> None:
    replace_line(study, 1, json.dumps(line).encode())
    with pytest.raises(StorageError, match=r"study\.journal is damaged: "):
        Ledger(study)


def test_a_record_of_something_else_is_told(study: Path) -> None:
    added_by_hand(study, record={"no": "trial"})
    with pytest.raises(StorageError, match=r"study\.journal is damaged: "):
        Ledger(study)


def test_a_trial_that_somebody_added_is_left_aside(finished: World, study: Path) -> None:
    known = Ledger(study).records
    assert known
    added_by_hand(study, whose="somebody's")
    assert Ledger(study).records == known
    shutil.copy(study, Workspace(finished.root / "out").study)
    again = finished.run(latency_budget="65%", trials=4, resume=True)
    assert again.manifest.search.trials == len(known)
