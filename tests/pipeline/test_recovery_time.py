"""The time of a recovery: what is compared, and what fails, is taken off what is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autosparse.pipeline import recover as stage
from autosparse.pipeline.job import Job
from tests.pipeline.recovery_job import (
    FEW_STEPS,
    SPARSE,
    SPARSER,
    SlowTrainings,
    config_of,
    opened,
    recovered_by,
    write_files,
)
from tests.pipeline.sparse_world import Notes

SECONDS = 600.0


@pytest.fixture
def told() -> Notes:
    return Notes()


@pytest.fixture
def job(tmp_path: Path, told: Notes) -> Iterator[Job]:
    write_files(tmp_path)
    yield from opened(config_of(tmp_path, recover_time=f"{SECONDS:.0f}s"), told)


def slow(monkeypatch: pytest.MonkeyPatch, *diverge: int) -> SlowTrainings:
    found = SlowTrainings(diverge)
    monkeypatch.setattr(stage, "TrainingPlan", FEW_STEPS)
    monkeypatch.setattr(stage, "train", found.train)
    return found


@pytest.mark.parametrize("diverge", [(), (0,), (1,), (2,)])
def test_all_trainings_together_take_the_time_that_was_given(
    job: Job, monkeypatch: pytest.MonkeyPatch, diverge: tuple[int, ...]
) -> None:
    trainings = slow(monkeypatch, *diverge)
    _, _, found = recovered_by(trainings.at(job), SPARSER, SPARSE)
    assert found.after is not None
    assert trainings.seconds[:2] == [75.0, 75.0]
    assert trainings.taken == pytest.approx(SECONDS)


def test_where_the_best_one_diverges_the_next_one_has_the_rest(
    job: Job, monkeypatch: pytest.MonkeyPatch, told: Notes
) -> None:
    trainings = slow(monkeypatch, 2)
    _, _, found = recovered_by(trainings.at(job), SPARSER, SPARSE)
    proxies = sorted((r.after, r.recipe_id) for r in found.records if r.is_proxy)
    (whole,) = [r for r in found.records if not r.is_proxy]
    assert trainings.seconds == pytest.approx([75.0, 75.0, 450.0, 225.0])
    assert [name for _, name in proxies].index(whole.recipe_id) == 1
    assert found.before is not None
    assert found.before.recipe.id == whole.recipe_id
    assert f"{proxies[0][1]} does not train: the recovery training diverged" in told.told


def test_where_no_short_training_comes_to_anything_no_long_one_is_begun(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = slow(monkeypatch, 0, 1)
    _, search, found = recovered_by(trainings.at(job), SPARSER, SPARSE)
    assert len(trainings.seconds) == len(search.trials) == 2
    assert found.after is None
    assert found.notes == (
        "the recovery training came to nothing: none of the recipes inside the budget trains",
    )


def test_a_resumed_stage_takes_off_what_was_done_before(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is known; what is left for the training is not what it would be without."""
    recovered_by(slow(monkeypatch).at(job), SPARSER, SPARSE)
    journal = job.workspace.recovered / "trainings.jsonl"
    first, second, _ = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text(first + second, encoding="utf-8")  # killed in the training behind them
    trainings = slow(monkeypatch)
    _, _, found = recovered_by(trainings.at(job), SPARSER, SPARSE)
    before = sum(record.seconds for record in found.records if record.is_proxy)
    assert trainings.seconds == pytest.approx([SECONDS - before])


def test_a_finished_training_is_found_whatever_comparing_took(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, found = recovered_by(slow(monkeypatch).at(job), SPARSER, SPARSE)
    assert found.after is not None
    trainings = slow(monkeypatch)
    _, _, again = recovered_by(trainings.at(job), SPARSER, SPARSE)
    assert trainings.seconds == []
    assert again.after is not None
    assert again.after.recipe == found.after.recipe
