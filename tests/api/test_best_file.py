"""What a cancelled job leaves: the best file that it has measured, marked as what it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.artifacts import artifacts_of
from tests.api.queue_world import SAMPLE, QueueWorld, trial


@pytest.fixture
def world(tmp_path: Path) -> Iterator[QueueWorld]:
    made = QueueWorld(tmp_path / "home")
    yield made
    made.database.close()


def best_file_of(world: QueueWorld, job: str, **files: str) -> Path:
    """Put a best file where the job's process would; its directory."""
    place = world.files.job(job) / "out" / "job" / "best" / "60a3ef089ad3"
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(b"onnx")
    told = json.loads(SAMPLE.with_name("BestSoFar.v1.json").read_text())
    told["files"] = {"model.onnx": hashlib.sha256(b"onnx").hexdigest(), **files}
    (place / "best-so-far.json").write_text(json.dumps(told))
    return place


def test_a_cancelled_job_leaves_its_best_file_to_be_fetched(world: QueueWorld) -> None:
    """That runs, is marked as not verified, and is not what the job itself goes on with."""
    job = world.job([trial(1), "hang"])
    place = best_file_of(world, job)
    with world.running():
        world.until(lambda: len(world.trials(job)) == 1)
        world.change(job, cancel_requested=True)
        assert world.ended(job) == ["cancelled"]
    found = artifacts_of(world.files.job(job))
    assert found.keys() == {"best-so-far.json", "model.onnx"}
    assert found["model.onnx"].path.read_bytes() == b"onnx"
    assert json.loads(found["best-so-far.json"].path.read_text())["verified"] is False
    shutil.rmtree(place)
    assert artifacts_of(world.files.job(job)).keys() == found.keys()
    (note,) = [e.data["text"] for e in world.events(job) if e.kind == "note"]
    assert "not verified" in note


def test_a_best_file_that_leads_elsewhere_is_left_out(world: QueueWorld, tmp_path: Path) -> None:
    """A process that was taken over may tell any name, and put any link there."""
    (tmp_path / "secret").write_text("another's")
    job = world.job([trial(1), "hang"])
    names = ("link", "../../../../log.txt", str(tmp_path / "secret"), "gone", "deep/link")
    place = best_file_of(world, job, **dict.fromkeys(names, "0" * 64))
    (world.files.job(job) / "log.txt").write_text("said")
    (place / "link").symlink_to(tmp_path / "secret")
    (place / "deep").symlink_to(tmp_path)
    with world.running():
        world.until(lambda: len(world.trials(job)) == 1)
        world.change(job, cancel_requested=True)
        world.ended(job)
    assert artifacts_of(world.files.job(job)).keys() == {"best-so-far.json", "model.onnx"}
    kept = world.files.job(job) / "best"
    assert {path.name for path in kept.rglob("*")} == {"best-so-far.json", "model.onnx"}
