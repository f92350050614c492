"""An agent in a thread, and what it is asked to time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autosparse.evaluation import LoweredModel
from tests.workers.agents import PlayedLane, RunningAgent, running_agent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """An agent whose lane plays."""
    with running_agent(tmp_path / "scratch", PlayedLane()) as running:
        yield running


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A file of inputs, for lanes that do not read it."""
    path = tmp_path / "inputs.npz"
    path.write_bytes(b"inputs")
    return path


@pytest.fixture
def model(residual_model: Path) -> LoweredModel:
    """A file to time."""
    return LoweredModel(residual_model.parent, residual_model.name)
