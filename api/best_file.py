"""What can be fetched of a job that delivered no bundle: the best file that it has measured."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from api.artifacts import BEST_SO_FAR
from autosparse.artifacts.bundle import RECIPE_FILE
from autosparse.journal import stored_safely
from autosparse.pipeline.best_so_far import BEST_FILE, NOT_VERIFIED, best_directory, read_best
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.workspace import Workspace


def keep_best_file(directory: Path, record: dict[str, Any] | None) -> str | None:
    """Put what is best so far beside what the job goes on from, where that leaves it alone.

    Args:
        directory: the job's.
        record: its best trial, whose recipe is all there is where its files are gone.

    Returns:
        What is to be told of the file; None where there is none.
    """
    fresh = directory / f"{BEST_SO_FAR}.new"
    with stored_safely(fresh):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        told = _copy_files(directory, fresh)
        if told is None and record is None:
            fresh.rmdir()
            return None
        if told is None:
            recipe = TrialRecord.model_validate(record).recipe
            (fresh / RECIPE_FILE).write_text(recipe.to_yaml(), encoding="utf-8")
        shutil.rmtree(directory / BEST_SO_FAR, ignore_errors=True)
        fresh.rename(directory / BEST_SO_FAR)
    return told


def _copy_files(directory: Path, fresh: Path) -> str | None:
    """Link the files that the job's process told of; it read an upload, and may tell anything."""
    lies = best_directory(Workspace(directory / "out"))
    try:
        told = None if lies is None else read_best(lies)
    except ValidationError:
        return None
    if lies is None or told is None:
        return None
    root = lies.resolve()
    for name in (BEST_FILE, *told.files):
        path = (root / name).resolve()
        if path.is_relative_to(root) and path.is_file():
            place = fresh / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)
    return (
        f"what is best so far can be fetched: recipe {told.recipe_id}, {told.latency_ratio:.1%} of "
        f"the baseline's latency, {NOT_VERIFIED}"
    )
