"""Assemble a replay: a backend for the dense model's answers, and no device."""

from __future__ import annotations

from pathlib import Path

from autosparse.pipeline.progress import Progress, Silent
from autosparse.pipeline.replay import Replayed, run_replay
from backends import BACKENDS


def replay(source: Path | str, *, progress: Progress | None = None) -> Replayed:
    """Play a search again from its log; nothing is measured, and its directory is only read.

    Args:
        source: the output directory of a job, or the bundle in it.
        progress: told what happens; silent by default.

    Returns:
        How many trials came out as they are logged, and the first choice that did not.

    Raises:
        UserInputError: there is no job with trials, or its model or data are gone or changed.
    """
    return run_replay(Path(source), BACKENDS.load, progress or Silent())
