"""A job that is killed at any moment goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.evaluation import Verdict
from autosparse.pipeline.workspace import Workspace
from tests.faults.real_job import Kind, RealJob, trials

# Kind of job -> at how many moments one is killed: the first kind is the quickest.
KILLS: dict[Kind, int] = {"int8": 10, "cpu": 2, "recover": 2}
# One measurement of a job this small takes a second; an orphan may finish the one it is in.
_ORPHAN_SECONDS = 90
_RESUMED_SECONDS = 600


@pytest.fixture(scope="module")
def undisturbed_seconds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], float]:
    """How long a job takes when nobody kills it."""

    @functools.cache
    def seconds(kind: Kind) -> float:
        job = RealJob.make(tmp_path_factory.mktemp("undisturbed"), kind=kind)
        start = time.monotonic()
        done = job.run()
        assert done.returncode == 0, done.stderr
        return time.monotonic() - start

    return seconds


def members(session: int) -> list[int]:
    """Living processes of a session: a job, and whatever it started."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                # the name in parentheses may hold spaces: fields are counted behind it
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    found.append(int(path.name))
    return found


def kill_after(process: subprocess.Popen[str], seconds: float, *, whole_group: bool) -> None:
    """Kill a job, unless it ends before; without its group, the measuring process is an orphan."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=seconds)
    if process.poll() is None:
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.communicate(timeout=_ORPHAN_SECONDS)  # the orphan holds the pipes until it ends
    end = time.monotonic() + _ORPHAN_SECONDS
    while members(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert members(process.pid) == []


def tear_logs(workspace: Workspace) -> list[Path]:
    """Leave half a line at the end of every log, as a kill in the middle of a write does."""
    logs = [*workspace.job.rglob("*.jsonl"), *workspace.job.glob("*.journal")]
    for path in logs:
        last = path.read_bytes().splitlines()[-1:] or [b'{"torn": 1}']
        with path.open("ab") as file:
            file.write(last[0][: len(last[0]) // 2])
    return logs


def finish(job: RealJob, finished: list[tuple[str, str]], limit_seconds: float) -> None:
    """Resume to the end: a verified bundle, and no trial that was finished is run again."""
    workspace = Workspace(job.output)
    last = job.start("--resume")
    _, told = last.communicate(timeout=limit_seconds)
    assert last.returncode == 0, told
    assert members(last.pid) == []
    every = trials(workspace)
    assert every[: len(finished)] == finished
    assert len(every) == len(set(every)), "a finished trial was run again"
    assert not list(workspace.job.rglob("*.journal.lock"))
    assert not (workspace.job / "scratch").exists()
    assert check_bundle(workspace.bundle).verdict is Verdict.MET
    verified = job.verify()
    assert verified.returncode == 0, verified.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "number"), [(kind, number) for kind, kills in KILLS.items() for number in range(kills)]
)
def test_a_job_killed_at_any_moment_is_resumed(
    tmp_path: Path, undisturbed_seconds: Callable[[Kind], float], kind: Kind, number: int
) -> None:
    rng = random.Random(number)
    job = RealJob.make(tmp_path, kind=kind)
    workspace = Workspace(job.output)
    whole_seconds = undisturbed_seconds(kind)
    moment = whole_seconds * (number + rng.random()) / KILLS[kind]
    kill_after(job.start(), moment, whole_group=number % 3 != 0)
    finished = trials(workspace)
    if number % 2:
        # once more, and what was left in the logs is torn
        kill_after(job.start("--resume"), rng.random() * whole_seconds, whole_group=True)
        assert trials(workspace)[: len(finished)] == finished
        finished = trials(workspace)
        tear_logs(workspace)
    finish(job, finished, 10 * whole_seconds + 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "stage"),
    [("cpu", "early verdict"), ("cpu", "predictor"), ("recover", "recover"), ("recover", "verify")],
)
def test_a_job_killed_in_a_stage_that_few_have_is_resumed(
    tmp_path: Path, kind: Kind, stage: str
) -> None:
    rng = random.Random(stage)
    job = RealJob.make(tmp_path, kind=kind)
    # pilots, costly weights, a training or what follows on it: none takes much longer than this
    kill_after(job.start_until(stage), 2 * rng.random(), whole_group=True)
    workspace = Workspace(job.output)
    finished = trials(workspace)
    assert not workspace.bundle.exists()
    tear_logs(workspace)
    finish(job, finished, _RESUMED_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_a_finished_job_measures_no_trial_again(tmp_path: Path, kind: Kind) -> None:
    job = RealJob.make(tmp_path, kind=kind)
    workspace = Workspace(job.output)
    assert job.run().returncode == 0
    before = trials(workspace)
    replayed = job.replay()
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert tear_logs(workspace)
    done = job.run("--resume")
    assert done.returncode == 0, done.stderr
    assert trials(workspace) == before
    assert "  trial  " not in done.stderr
