"""Another budget of a real job, as a user asks for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.evaluation import Verdict
from autosparse.pipeline.workspace import Workspace
from tests.faults.real_job import RealJob, trials

_SECONDS = 300


def resolve(job: RealJob, *flags: str) -> subprocess.CompletedProcess[str]:
    script = str(Path(sys.executable).with_name("autosparse"))
    return subprocess.run(
        [script, "resolve", *flags], cwd=job.root, text=True, capture_output=True, check=False,
        timeout=_SECONDS,
    )  # fmt: skip


@pytest.mark.slow
def test_another_budget_is_answered_verified_and_delivered_beside(tmp_path: Path) -> None:
    job = RealJob.make(tmp_path)
    assert job.run().returncode == 0
    known = trials(Workspace(job.output))  # opens the study, which writes to it
    files = {p: p.stat().st_mtime_ns for p in job.output.rglob("*") if p.is_file()}
    done = resolve(job, "out/bundle", "--latency-budget", "999%", "--trials", "1", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    new = tmp_path / "out-999pct"
    assert answer["bundle"] == str(new / "bundle")
    assert check_bundle(new / "bundle").verdict is Verdict.MET
    mine = trials(Workspace(new))
    assert mine[: len(known)] == known
    assert len(mine) <= len(known) + 1
    for stage in ("baseline", "calibrate", "levels", "predictor"):
        assert f"s {stage} " not in done.stderr, "what was measured is not measured again"
    assert {p: p.stat().st_mtime_ns for p in job.output.rglob("*") if p.is_file()} == files
    # the first directory is not needed any more, but for what it was made from
    moved = job.output.rename(tmp_path / "gone")
    verified = resolve(job, str(new), "--latency-budget", "998%", "--trials", "0")
    assert verified.returncode == 0, verified.stderr
    bare = resolve(job, str((moved / "bundle").rename(tmp_path / "bare")))
    assert bare.returncode == 2
    assert "is a bundle without its job" in bare.stderr
