"""How the story tells whoever watches where it is."""

from __future__ import annotations

from typing import Protocol

from autosparse.pipeline.records import TrialRecord


class Progress(Protocol):
    """Receives what happens, as it happens."""

    def stage(self, name: str, detail: str = "") -> None:
        """A new stage of the story begins."""

    def step(self, done: int, total: int, detail: str = "") -> None:
        """Work within the current stage went on."""

    def trial(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """A trial is complete; `best` is the best deliverable one so far."""

    def note(self, text: str) -> None:
        """Something a person should know, and nothing to do about now."""


class Silent:
    """Tells nobody."""

    def stage(self, name: str, detail: str = "") -> None:
        """Nothing."""

    def step(self, done: int, total: int, detail: str = "") -> None:
        """Nothing."""

    def trial(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
