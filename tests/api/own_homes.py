"""Runners that share a database and a store, and no directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from api.snapshots import goes_on_from
from tests.api.queue_world import QueueWorld


class OwnHomes:
    """Two homes below a directory.

    Args:
        directory: where they and the database are.
        artifacts: URL of the store.
        **settings: beyond the usual.
    """

    def __init__(self, directory: Path, artifacts: str, **settings: Any) -> None:
        url = f"sqlite:///{directory / 'shared.sqlite3'}"
        given = {"artifacts": artifacts, "own_home": True, "snapshot_seconds": 0.05, **settings}
        self.first = QueueWorld(directory / "first", url, **given)
        self.second = QueueWorld(directory / "second", url, **given)

    def study(self, world: QueueWorld, job: str) -> list[str]:
        """What a job's process has written in a home."""
        place = world.files.job(job) / "out" / "study"
        return place.read_text().split() if place.exists() else []

    def attempts(self, world: QueueWorld, job: str) -> int:
        """How many processes have played a job's script, as a home has it."""
        return len(list(world.files.job(job).glob("attempt-*")))

    def is_current(self, world: QueueWorld, job: str) -> bool:
        """Whether a home has the job as it was kept last."""
        kept = world.row(job).snapshot
        return kept is not None and goes_on_from(world.files.job(job)) == kept

    def close(self) -> None:
        """Let go of the database."""
        self.first.database.close()
        self.second.database.close()
