"""The best file that a search has measured: there whenever the job is ended, and not verified.

What is delivered was verified, which takes a minute and more. Whoever ends a job at once has this.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.artifacts.bundle import RECIPE_FILE, file_sha256
from autosparse.evaluation import LoweredModel
from autosparse.journal import stored_safely
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.workspace import Workspace

BEST_FILE = "best-so-far.json"
NOT_VERIFIED = (
    "not verified: the job was ended before. What is best so far was lowered and measured in the "
    "search, and judged on the rows that select. Let the job go on to have it verified"
)
"""What to say of it wherever it is found."""
_MEASURED = "measured"


class BestSoFar(BaseModel):
    """What a file is that lies beside this, and what was measured of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this file's schema."""
    verified: Literal[False] = False
    """It never is: what was verified is in a bundle."""
    note: str = NOT_VERIFIED
    """The same in words."""
    recipe_id: str
    """The recipe that was lowered."""
    latency_seconds: float
    """Its latency in the search."""
    latency_ratio: float
    """The same as a share of the baseline's, timed in turns with it."""
    drop: float
    """Loss of quality on the rows that select."""
    metric: str
    """What the loss is of."""
    entry: str
    """The file to load."""
    graph_level: Literal["disabled", "basic", "extended", "all"]
    """How far the runtime is to optimize its graph."""
    library: str
    """Library of custom operators to load with it; empty for none."""
    files: dict[str, str]
    """Every other file here -> SHA-256."""


def set_aside(workspace: Workspace, model: LoweredModel, record: TrialRecord) -> None:
    """Keep the files of a recipe that was measured, until it is known how good it is.

    Those of the recipe before it go.
    """
    place = workspace.scratch(_MEASURED)
    with stored_safely(place):
        model.directory.replace(place)
        (place / RECIPE_FILE).write_text(record.recipe.to_yaml(), encoding="utf-8")
        inside = sorted(path for path in place.rglob("*") if path.is_file())
        told = BestSoFar(
            recipe_id=record.recipe.id, latency_seconds=record.latency_seconds,
            latency_ratio=record.evidence.latency_ratio, drop=record.evidence.drop,
            metric=record.quality.metric, entry=model.entry, graph_level=model.graph_level,
            library=model.library,
            files={path.relative_to(place).as_posix(): file_sha256(path) for path in inside},
        )  # fmt: skip
        (place / BEST_FILE).write_text(told.model_dump_json(indent=2) + "\n", encoding="utf-8")


def keep_best(workspace: Workspace, recipe_id: str) -> None:
    """Let what was set aside be what is found when the job is ended now, if it is that recipe's.

    A recipe that is the best since an earlier run has its files there already, or nowhere.
    """
    measured = workspace.scratches / _MEASURED
    told = read_best(measured)
    if told is None or told.recipe_id != recipe_id:
        return
    place = workspace.best / recipe_id
    with stored_safely(place):
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(exist_ok=True)
        measured.replace(place)
    keep_only(workspace, recipe_id)


def forget_best(workspace: Workspace, recipe_id: str) -> None:
    """Forget the files of a recipe that a verification refuted."""
    shutil.rmtree(workspace.best / recipe_id, ignore_errors=True)


def keep_only(workspace: Workspace, recipe_id: str | None) -> None:
    """Forget the files of every recipe but one; None for all of them."""
    for path in _kept(workspace):
        if path.name != recipe_id:
            shutil.rmtree(path, ignore_errors=True)


def best_directory(workspace: Workspace) -> Path | None:
    """Where the best file so far lies; None where none was measured, or it is in the bundle."""
    # of two, a kill came before the older one was gone
    kept = [path for path in _kept(workspace) if (path / BEST_FILE).is_file()]
    return max(kept, key=lambda path: (path / BEST_FILE).stat().st_mtime, default=None)


def read_best(directory: Path) -> BestSoFar | None:
    """What lies in a directory, if it is a best file so far.

    Raises:
        ValidationError: it says something else.
    """
    try:
        return BestSoFar.model_validate_json((directory / BEST_FILE).read_bytes())
    except FileNotFoundError:
        return None


def _kept(workspace: Workspace) -> list[Path]:
    return list(workspace.best.iterdir()) if workspace.best.is_dir() else []
