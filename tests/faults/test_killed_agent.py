"""A device that is switched off in the middle of a search: the job waits for it, or says so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.evaluation import Environment, Verdict, read_environment
from autosparse.pipeline.workspace import Workspace
from tests.faults.real_job import RealJob, trials
from tests.workers.agents import AgentProcess

TRIALS = "20"
_SECONDS = 300


@pytest.fixture
def device(tmp_path: Path) -> Iterator[AgentProcess]:
    """It has more cores than this machine, so that its seconds cannot be taken for ours."""
    root = tmp_path / "device"
    root.mkdir()
    (root / "sitecustomize.py").write_text("import os\nos.cpu_count = lambda: 77\n")
    agent = AgentProcess(root, PYTHONPATH=str(root))
    agent.start()
    yield agent
    agent.stop()


def target_file(job: RealJob, device: AgentProcess) -> Path:
    path = job.root / "target.yaml"
    document = {
        "name": "the device", "address": f"rpc://127.0.0.1:{device.port}",
        "key_file": str(device.key_file),
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return path


def wait_for_trials(workspace: Workspace, count: int) -> None:
    end = time.monotonic() + _SECONDS
    while len(trials(workspace)) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_search_survives_that_its_device_is_killed_twice(
    tmp_path: Path, device: AgentProcess
) -> None:
    job = RealJob.make(tmp_path)
    workspace = Workspace(job.output)
    flags = ("--target", str(target_file(job, device)), "--trials", TRIALS)
    running = job.start(*flags)
    for count in (2, 5):
        wait_for_trials(workspace, count)
        device.kill()
        time.sleep(1.0)  # the job notices, and tries again
        device.start()
    _, told = running.communicate(timeout=_SECONDS)
    assert running.returncode == 0, told
    assert "does not answer" in told
    check_delivered(job, workspace)
    verified = job.verify()  # through the agent again: the bundle's target names it
    assert verified.returncode == 0, verified.stderr


@pytest.mark.slow
def test_a_job_that_gave_up_goes_on_when_the_device_is_back(
    tmp_path: Path, device: AgentProcess
) -> None:
    """Its patience is ended by killing it; what it knew by then is kept."""
    job = RealJob.make(tmp_path)
    workspace = Workspace(job.output)
    flags = ("--target", str(target_file(job, device)), "--trials", TRIALS)
    running = job.start(*flags)
    wait_for_trials(workspace, 3)
    device.kill()
    time.sleep(0.5)
    running.kill()
    running.communicate(timeout=_SECONDS)
    known = trials(workspace)
    device.start()
    done = job.run(*flags, "--resume")
    assert done.returncode == 0, done.stderr
    assert trials(workspace)[: len(known)] == known
    check_delivered(job, workspace)


def check_delivered(job: RealJob, workspace: Workspace) -> None:
    manifest = check_bundle(workspace.bundle)
    assert manifest.verdict is Verdict.MET
    environment = Environment.model_validate_json(
        (workspace.bundle / "environment.json").read_bytes()
    )
    assert environment.cores == 77
    assert manifest.environment == environment.id != read_environment().id
    lines = (workspace.bundle / "measurements.jsonl").read_text().splitlines()
    assert {json.loads(line)["environment"] for line in lines} == {environment.id}
    every = trials(workspace)
    assert {where for _, where in every} == {environment.id}
    assert len(every) == len(set(every))
    assert manifest.target.name == "the device"
    assert manifest.search.failed == 0
    secret = (job.root / "device" / "agent.key").read_text().strip()
    for path in job.output.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
