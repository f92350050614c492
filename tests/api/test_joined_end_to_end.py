"""A device that joins, as its users meet it: a real server and agent, jobs that measure there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autosparse import Client
from autosparse.evaluation import read_environment
from tests.api.served import Served, until
from tests.faults.real_job import RealJob
from tests.workers.agents import AgentProcess

pytestmark = pytest.mark.slow
CORES = 7
# what a device has that this machine has not
_ELSEWHERE = f"import os\nos.cpu_count = lambda: {CORES}\n"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    RealJob.make(tmp_path)
    made = Served(tmp_path, "--device-network", "127.0.0.0/8")
    made.start()
    yield made
    made.kill()
    until(made.nothing_runs)


@pytest.fixture
def board(served: Served, tmp_path: Path) -> Iterator[AgentProcess]:
    root = tmp_path / "device"
    root.mkdir()
    (root / "sitecustomize.py").write_text(_ELSEWHERE)
    agent = AgentProcess(
        root, "--name", "board-a", join=served.url, PYTHONPATH=str(root), AUTOSPARSE_KEY=served.key
    )
    agent.start()
    yield agent
    agent.stop()


def devices(client: Client) -> dict[str, int | None]:
    return {one.name: one.cores for one in client.devices()}


def board_environment(client: Client) -> str | None:
    return next(one.environment for one in client.devices() if one.name == "board-a")


def test_a_job_measures_on_a_device_that_goes_away_and_comes_back(
    served: Served, board: AgentProcess
) -> None:
    here = read_environment()
    with Client(served.url, served.key) as client:
        until(lambda: devices(client).get("board-a") == CORES)
        fields = {"calibration": "calibration.npz", "validation": "validation.npz"}
        data: dict[str, Any] = {k: served.directory / v for k, v in fields.items()}
        job = client.submit(
            served.directory / "model.onnx", **data, latency_budget="1000%", max_drop="100pt",
            space="int8", trials=6, device="board-a",
        ).id  # fmt: skip
        until(lambda: len(client.trials(job)) >= 1)
        board.kill()
        board.start()
        done = client.wait(job)
        assert (done.state, done.verdict) == ("finished", "met"), done.problem
        assert (done.device, done.ran_on) == ("board-a", "board-a")
        environment = board_environment(client)
        assert environment != here.id
        assert done.manifest is not None
        assert done.manifest["environment"] == environment
        assert done.manifest["target"]["address"] == "rpc://board-a:9190"
        again = client.wait(client.reverify(job).id)
        assert (again.state, again.ran_on) == ("finished", "board-a"), again.problem
        assert again.outcome is not None
        assert again.outcome["environment"] == environment
        other = client.wait(client.resolve(job, latency_budget="900%", trials=0).id)
        assert (other.state, other.verdict) == ("finished", "met"), other.problem
        elsewhere = client.submit(
            served.directory / "model.onnx", **data, latency_budget="1000%", max_drop="100pt",
            space="int8", trials=1,
        ).id  # fmt: skip
        assert client.wait(elsewhere).manifest["environment"] == here.id  # type: ignore[index]
        assert board.stop() == 0
        until(lambda: "board-a" not in devices(client))


def refused(served: Served, key: str, url: str, root: Path) -> subprocess.CompletedProcess[str]:
    """An agent that cannot join: it ends by itself."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("autosparse")), "agent", "--join", url,
         "--listen", "127.0.0.1:0", "--scratch", str(root / "refused")],
        env={**served.environment(), "AUTOSPARSE_KEY": key}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def test_who_is_refused_is_told_in_a_sentence(served: Served, tmp_path: Path) -> None:
    wrong = refused(served, "key_x.y", served.url, tmp_path)
    assert (wrong.returncode, "no valid key" in wrong.stderr) == (2, True), wrong.stderr
    nobody = refused(served, served.key, "http://127.0.0.1:9", tmp_path)
    assert (nobody.returncode, "cannot be reached" in nobody.stderr) == (1, True), nobody.stderr
    for done in (wrong, nobody):
        assert "Traceback" not in done.stderr
