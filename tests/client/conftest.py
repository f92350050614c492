"""What takes seconds to start, once for all tests of the client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.inspection import Inspector
from tests.api.live_service import LIMITS, LiveService, live_service


@pytest.fixture(scope="session")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    made = Inspector(LIMITS, tmp_path_factory.mktemp("inspector") / "log.txt", slots=1)
    yield made
    made.close()


@pytest.fixture
def live(tmp_path: Path, inspector: Inspector) -> Iterator[LiveService]:
    with live_service(tmp_path / "home", inspector) as service:
        yield service
