"""A served search with workers on Ray, from the submission to the verified bundle."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import server
from autosparse import Client
from tests.api.served import Served, until
from tests.api.test_end_to_end import submit
from tests.faults.real_job import RealJob

pytestmark = pytest.mark.slow


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    pytest.importorskip("ray", reason="Ray is not installed")
    if subprocess.run(server._TRY_LOOPBACK, check=False).returncode != 0:
        pytest.skip("this system gives a process no network of its own")
    RealJob.make(tmp_path)
    made = Served(tmp_path, "--workers", "2")
    made.start()
    yield made
    made.kill()
    until(made.nothing_runs)
    until(lambda: not ray_processes())


def ray_processes() -> list[int]:
    """Ray's daemons on this machine that a job's process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name = (path / "comm").read_text().strip()
            inherited = "\nSeccomp:\t2\n" in (path / "status").read_text()
        except OSError:
            continue
        if name in ("raylet", "gcs_server") and inherited:
            found.append(int(path.name))
    return found


def test_a_search_on_workers_of_its_own(served: Served) -> None:
    job = submit(served)
    here = os.readlink("/proc/self/ns/net")
    with Client(served.url, served.key) as client:
        until(ray_processes)
        assert all(os.readlink(f"/proc/{pid}/ns/net") != here for pid in ray_processes())
        done = client.wait(job)
        assert (done.state, done.verdict) == ("finished", "met")
        assert "model.onnx" in [item.name for item in client.artifacts(job)]
    until(lambda: not ray_processes())


def test_cancelled_in_the_middle(served: Served) -> None:
    """Nothing of Ray outlives the job."""
    job = submit(served)
    with Client(served.url, served.key) as client:
        until(lambda: client.trials(job))
        client.cancel(job)
        until(lambda: client.job(job).state == "cancelled")
    until(lambda: not ray_processes())
