"""An answer is asked for while recipes are trained: nothing else is begun, and it can go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from autosparse.pipeline import recover as stage
from autosparse.pipeline.job import Job
from tests.pipeline.recovery_job import (
    FEW_STEPS,
    SPARSE,
    SPARSER,
    config_of,
    opened,
    recovered_by,
    write_files,
)
from tests.pipeline.sparse_world import Notes


class Impatient(Notes):
    """Wants the answer as soon as a training is heard of."""

    answer_now, trains = Event(), False

    def stage(self, name: str, detail: str = "") -> None:
        self.trains = name == "recover"

    def step(self, done: int, total: int, detail: str = "") -> None:
        if self.trains:
            self.answer_now.set()


@pytest.fixture
def told() -> Impatient:
    return Impatient()


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "TrainingPlan", FEW_STEPS)


@pytest.fixture
def job(tmp_path: Path, told: Impatient) -> Iterator[Job]:
    write_files(tmp_path)
    for job in opened(config_of(tmp_path), told):
        told.answer_now = job.engines.answer_now
        yield job


def journal(job: Job) -> str:
    file = job.workspace.recovered / "trainings.jsonl"
    return file.read_text(encoding="utf-8") if file.exists() else ""


def test_while_winners_are_compared(job: Job, told: Impatient) -> None:
    _, search, found = recovered_by(job, SPARSER, SPARSE)
    (record,) = found.records
    assert (record.is_proxy, record.end) == (True, "asked")
    assert found.after is None
    assert len(search.trials) == 2
    assert found.notes == ("no more than a comparison was trained: an answer was asked for",)
    assert found.notes[0] in told.told
    assert journal(job) == ""


def test_while_the_best_is_trained(job: Job, told: Impatient) -> None:
    _, _, found = recovered_by(job, SPARSE)
    (record,) = found.records
    assert record.end == "asked"
    assert record.steps < 24
    assert found.after is not None
    assert journal(job) == ""
    # the same job, resumed, by somebody who waits
    job.engines.answer_now.clear()
    told.answer_now = Event()
    _, _, later = recovered_by(job, SPARSE)
    (record,) = later.records
    assert record.end != "asked"
    assert record.steps > found.records[0].steps
    assert record.curve[: len(found.records[0].curve)] == found.records[0].curve
    assert record.key in journal(job)
    assert list(job.workspace.recovered.glob("*.pt")) == []


def test_a_checkpoint_that_is_not_gone_on_from_is_told(job: Job, told: Impatient) -> None:
    recovered_by(job, SPARSE)
    (checkpoint,) = job.workspace.recovered.glob("*.pt")
    checkpoint.write_bytes(b"PK\x03\x04 no checkpoint")
    job.engines.answer_now.clear()
    told.answer_now = Event()
    _, _, later = recovered_by(job, SPARSE)
    assert stage.BEGUN_ANEW in later.notes
    assert stage.BEGUN_ANEW in told.told
