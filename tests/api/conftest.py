"""One inspecting process for all tests of the service: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.inspection import Inspector
from tests.api.live_service import LIMITS, LiveService, job_fields, live_service


@pytest.fixture(scope="session")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    made = Inspector(LIMITS, tmp_path_factory.mktemp("inspector") / "log.txt", slots=1)
    yield made
    made.close()


@pytest.fixture
def live(tmp_path: Path, inspector: Inspector) -> Iterator[LiveService]:
    """A fresh service with one key."""
    with live_service(tmp_path / "home", inspector) as service:
        yield service


@pytest.fixture
def fields(live: LiveService, residual_model: Path, tmp_path: Path) -> dict[str, object]:
    """A job that would be accepted, its files uploaded."""
    return job_fields(live, residual_model, tmp_path)
