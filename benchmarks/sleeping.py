"""Fake evaluations for workers: they take their time and no processor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SleepingKit:
    """A kit with nothing in it."""

    files: Path

    def at(self, files: Path) -> SleepingKit:
        """See `Kit.at`."""
        return SleepingKit(files)

    def loaded(self) -> SleepingKit:
        """See `Kit.loaded`."""
        return self


@dataclass(frozen=True)
class Sleep:
    """A fake evaluation: busy cores do not matter to it."""

    seconds: float

    def __call__(self, kit: SleepingKit, /) -> float:
        """Sleep."""
        time.sleep(self.seconds)
        return self.seconds
