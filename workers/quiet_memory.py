"""What a lane remembers of its device's quiet state, within a job and from one job to the next."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from autosparse.evaluation import Environment
from autosparse.evaluation.quiet_state import QuietState, SeenState, quiet_state, remembered


class _Seen(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seen: tuple[SeenState, ...]


class QuietMemory:
    """What measurements of one lane saw.

    Args:
        directory: where it is kept for other jobs, a file for each environment; None for this
            lane alone.
        now: seconds since 1970.
    """

    def __init__(self, directory: Path | None = None, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._now = now
        self._seen: dict[str, list[SeenState]] = {}

    def state(self, environment: Environment, threads: int) -> QuietState | None:
        """What a measurement that begins now is to be held to."""
        return quiet_state(self._of(environment), threads, self._now())

    def add(self, environment: Environment, threads: int, state: QuietState) -> None:
        """Remember what a measurement that has just ended saw."""
        now = self._now()
        new = SeenState(best=state.best, cores=state.cores, threads=threads, at=now)
        seen = remembered([*self._of(environment), new], now)
        self._seen[environment.id] = seen
        if self._directory is not None:
            _write(self._directory / f"{environment.id}.json", _Seen(seen=tuple(seen)))

    def _of(self, environment: Environment) -> list[SeenState]:
        if environment.id not in self._seen:
            stored = None if self._directory is None else self._directory / f"{environment.id}.json"
            self._seen[environment.id] = [] if stored is None else _read(stored)
        return self._seen[environment.id]


def _read(path: Path) -> list[SeenState]:
    """What another job left; a file that is missing or damaged tells nothing."""
    try:
        return list(_Seen.model_validate_json(path.read_bytes()).seen)
    except (OSError, ValidationError):
        return []


def _write(path: Path, seen: _Seen) -> None:
    """Whole or not at all. Where it cannot be kept, this lane remembers all the same."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(seen.model_dump_json(), encoding="utf-8")
        partial.replace(path)
