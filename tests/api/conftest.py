"""What takes seconds to start, once for all tests of the service."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from api.inspection import Inspector
from tests.api.live_service import LIMITS, LiveService, job_fields, live_service
from tests.api.postgres import Postgres
from tests.api.s3_store import S3Store
from tests.workers.agents import PlayedLane, RunningAgent, running_agent


@pytest.fixture(scope="session")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    made = Inspector(LIMITS, tmp_path_factory.mktemp("inspector") / "log.txt", slots=1)
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of our own; skips where there is none."""
    with tempfile.TemporaryDirectory() as directory:
        made = Postgres(Path(directory))
        yield made
        made.stop()


@pytest.fixture
def live(tmp_path: Path, inspector: Inspector) -> Iterator[LiveService]:
    """A fresh service with one key."""
    with live_service(tmp_path / "home", inspector) as service:
        yield service


@pytest.fixture
def joinable(tmp_path: Path, inspector: Inspector) -> Iterator[LiveService]:
    """A service that takes devices of this machine."""
    with live_service(tmp_path / "home", inspector, device_networks=["127.0.0.0/8"]) as made:
        yield made


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """An agent whose device takes a millisecond for every file."""
    with running_agent(tmp_path / "scratch", PlayedLane()) as made:
        yield made


@pytest.fixture
def fields(live: LiveService, residual_model: Path, tmp_path: Path) -> dict[str, object]:
    """A job that would be accepted, its files uploaded."""
    return job_fields(live, residual_model, tmp_path)


@pytest.fixture
def memory() -> Iterator[str]:
    """A place in fsspec's memory, of one's own."""
    url = f"memory://{uuid.uuid4()}/delivered"
    yield url
    store = fsspec.filesystem("memory")
    if store.exists(url):
        store.rm(url, recursive=True)


@pytest.fixture(scope="session")
def s3_store() -> Iterator[S3Store]:
    """A store of the S3 protocol; skips where its libraries are not installed."""
    made = S3Store()
    yield made
    made.close()


@pytest.fixture
def s3(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in a bucket of its own, which nobody has made yet, given by the environment alone."""
    for name, value in s3_store.environment.items():
        monkeypatch.setenv(name, value)
    # one that is away is away: waiting for it is no part of these tests
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return f"s3://{uuid.uuid4()}/delivered"


@pytest.fixture(scope="module")
def shared_live(
    tmp_path_factory: pytest.TempPathFactory, inspector: Inspector
) -> Iterator[LiveService]:
    """A service for all tests of a module, each of which has jobs of its own."""
    with live_service(tmp_path_factory.mktemp("shared") / "home", inspector) as service:
        yield service
