"""What takes seconds to start, once for all tests of the service."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.inspection import Inspector
from tests.api.live_service import LIMITS, LiveService, job_fields, live_service
from tests.api.postgres import Postgres


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
def fields(live: LiveService, residual_model: Path, tmp_path: Path) -> dict[str, object]:
    """A job that would be accepted, its files uploaded."""
    return job_fields(live, residual_model, tmp_path)
