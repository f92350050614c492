"""A disk that fills up in the middle of a job: one sentence, and nothing that was done is lost."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.evaluation import Verdict
from autosparse.pipeline.workspace import Workspace
from tests.faults.real_job import Kind, RealJob, trials

_ROOM = "256m"
_SECONDS = 300
_STAGES = (
    "intake", "baseline", "levels", "predictor", "starts", "search", "verify", "bundle",
)  # fmt: skip


class SmallDisk:
    """A file system of its own, and a file on it that takes whatever room is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def mount(self) -> None:
        done = _system("mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(self.path))
        if done.returncode != 0:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.path / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass

    def free(self) -> None:
        (self.path / "filler").unlink()

    def unmount(self) -> None:
        _system("umount", str(self.path))


def _system(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Gone afterwards, whatever happens."""
    small = SmallDisk(tmp_path / "disk")
    try:
        small.mount()
        yield small
    finally:
        small.unmount()


def run_until_full(job: RealJob, disk: SmallDisk, stage: str) -> tuple[int, str]:
    """Run a job, fill its disk when it enters a stage: exit code, and what it said from there."""
    process = job.start_until(stage)
    disk.fill()
    _, told = process.communicate(timeout=_SECONDS)
    return process.returncode, told


def assert_told(code: int, stderr: str) -> None:
    """Exit code 2, one sentence, what to do, and no traceback."""
    assert code == 2, stderr
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    error, hint = stderr.splitlines()[-2:]
    assert error.startswith("error: the disk is full while writing ")
    assert "free some space, then run the same command with --resume" in hint


def finish(job: RealJob) -> None:
    """With room, the job ends with a verified bundle, and runs nothing again that was complete."""
    workspace = Workspace(job.output)
    before = trials(workspace)
    done = job.run("--resume")
    assert done.returncode == 0, done.stderr
    after = trials(workspace)
    assert after[: len(before)] == before
    assert len(after) == len(set(after))
    assert check_bundle(workspace.bundle).verdict is Verdict.MET
    assert not workspace.bundle.with_name("bundle.partial").exists()
    verified = job.verify()
    assert verified.returncode == 0, verified.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        *(("int8", stage) for stage in _STAGES),
        ("cpu", "early verdict"), ("cpu", "search"), ("recover", "recover"),
    ],
)  # fmt: skip
def test_a_disk_that_fills_up_loses_nothing(
    tmp_path: Path, disk: SmallDisk, kind: Kind, stage: str
) -> None:
    job = RealJob.make(tmp_path, disk.path / "out", kind)
    assert_told(*run_until_full(job, disk, stage))
    disk.free()
    finish(job)


@pytest.mark.slow
@pytest.mark.parametrize("largest", [1 << 10, 1 << 16])
def test_a_limit_on_the_size_of_a_file_is_told_alike(tmp_path: Path, largest: int) -> None:
    """No file system has to be mounted for this one.

    The smaller one strikes at intake, the larger one in the measuring process: its trace.
    """
    job = RealJob.make(tmp_path)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    done = job.run(before=limit)
    assert_told(done.returncode, done.stderr)
    finish(job)
