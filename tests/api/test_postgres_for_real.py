"""Two servers, two runners and one PostgreSQL; a runner is killed, and the database restarted."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from autosparse import Client
from autosparse.client.records import EventInfo
from tests.api.postgres import Postgres
from tests.api.served import Served, until
from tests.faults.real_job import RealJob

pytestmark = pytest.mark.slow
JOBS = 12
TINY: dict[str, Any] = {
    "latency_budget": "1000%",
    "max_drop": "100pt",
    "space": "int8",
    "trials": 2,
}
PATIENCE_SECONDS = 3000.0


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory() as directory:
        made = Postgres(Path(directory))
        yield made
        made.stop()


@pytest.fixture
def servers(postgres: Postgres, tmp_path: Path) -> Iterator[tuple[Served, Served]]:
    """Both with the same database and home, and a device of their own."""
    shared = ("--database", postgres.url("shared"), "--home", str(tmp_path / "home"))
    made: list[Served] = []
    for device in ("one", "two"):
        directory = tmp_path / device
        directory.mkdir()
        served = Served(directory, *shared, "--device", device)
        served.key = made[0].key if made else ""
        served.start()
        made.append(served)
    yield made[0], made[1]
    for served in made:
        served.stop()


class Follower(threading.Thread):
    """Keeps what one server tells of one job, until the job ends."""

    def __init__(self, served: Served, job: str) -> None:
        super().__init__(daemon=True)
        self.job = job
        self.events: list[EventInfo] = []
        self._client = Client(served.url, served.key, tries=10)

    def run(self) -> None:
        with self._client:
            for event in self._client.events(self.job):
                self.events.append(event)

    @property
    def states(self) -> list[str]:
        return [event.data["state"] for event in self.events if event.kind == "state"]

    @property
    def recipes(self) -> list[str]:
        return [event.data["recipe_id"] for event in self.events if event.kind == "trial"]


def kill_runner(served: Served) -> None:
    """By kill -9, whatever it does."""
    for child in psutil.Process(served.running.pid).children():
        if any("api.runner" in part for part in child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)


def submitted(servers: tuple[Served, Served], directory: Path) -> list[str]:
    """Twelve jobs, given to both servers in turn."""
    files = RealJob.make(directory)
    jobs = []
    with Client(servers[0].url, servers[0].key) as client:
        model = client.upload_model(files.model).id
        data = [client.upload_dataset(p).id for p in (files.calibration, files.validation)]
    for number in range(JOBS):
        served = servers[number % 2]
        with Client(served.url, served.key) as client:
            job = client.submit(model, calibration=data[0], validation=data[1], **TINY)
            jobs.append(job.id)
    return jobs


def test_every_job_ends_once_whatever_dies(
    servers: tuple[Served, Served], postgres: Postgres, tmp_path: Path
) -> None:
    jobs = submitted(servers, tmp_path)
    followers = [Follower(served, job) for job in jobs for served in servers]
    for follower in followers:
        follower.start()

    def trials() -> int:
        return sum(len(follower.recipes) for follower in followers[::2])

    def searching() -> bool:
        """Whether a job of the first device has a trial, and not yet its end."""
        return any(f.recipes and f.states[-1] == "running" for f in followers[::2])

    until(searching, PATIENCE_SECONDS)
    kill_runner(servers[0])
    seen = trials()
    until(lambda: trials() > seen + 1, PATIENCE_SECONDS)
    postgres.stop()
    postgres.start()
    for follower in followers:
        follower.join(PATIENCE_SECONDS)
        assert not follower.is_alive(), follower.states
    with Client(servers[1].url, servers[1].key) as client:
        for one, other in zip(followers[::2], followers[1::2], strict=True):
            assert [e.sequence for e in one.events] == list(range(1, len(one.events) + 1))
            assert one.events == other.events
            assert one.states.count("finished") == 1
            assert one.states[-1] == "finished"
            assert len(one.recipes) == len(set(one.recipes)) >= 1
            done = client.job(one.job)
            assert (done.state, done.verdict) == ("finished", "met")
            assert [t.recipe_id for t in client.trials(one.job)] == one.recipes
            assert "model.onnx" in [item.name for item in client.artifacts(one.job)]
    assert any(f.states.count("running") > 1 for f in followers), "something was interrupted"
