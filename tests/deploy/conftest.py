"""The service whose health the deployments' probes look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live_service import LiveService, live_service


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveService]:
    """A fresh service with one key."""
    with live_service(tmp_path / "home") as service:
        yield service
