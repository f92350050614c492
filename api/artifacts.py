"""What a job delivered: a closed list of files. A name that is not in it leads nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autosparse.artifacts.bundle import RECIPE_FILE, file_sha256
from autosparse.artifacts.manifest import MANIFEST_NAME, read_manifest
from autosparse.pipeline.best_so_far import BEST_FILE, read_best
from autosparse.pipeline.workspace import Workspace

BEST_SO_FAR = "best"
"""Directory of the best file, or its recipe alone, of a job that delivered no bundle."""
ATLAS_DATA = "atlas.json"
"""What a job that made an atlas wrote last: everything that the page shows."""
_OF_AN_ATLAS = (ATLAS_DATA, "atlas.html", "atlas.jsonl", "measurements.jsonl",
                "plan_measurements.jsonl")  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """A delivered file and its digest."""

    path: Path
    sha256: str


def artifacts_of(directory: Path) -> dict[str, Artifact]:
    """The files of a job's bundle by name; without a bundle, its atlas, or what is best so far.

    Args:
        directory: the job's.
    """
    bundle = Workspace(directory / "out").bundle
    if (directory / "out" / ATLAS_DATA).is_file():  # written last
        files = (directory / "out" / name for name in _OF_AN_ATLAS)
        return {path.name: _artifact(path) for path in files if path.is_file()}
    if not (bundle / MANIFEST_NAME).is_file():
        return _best_so_far(directory / BEST_SO_FAR)
    return {
        MANIFEST_NAME: _artifact(bundle / MANIFEST_NAME),
        **_listed(bundle, read_manifest(bundle).files),
    }


def _best_so_far(place: Path) -> dict[str, Artifact]:
    told = read_best(place)
    if told is not None:
        return {BEST_FILE: _artifact(place / BEST_FILE), **_listed(place, told.files)}
    recipe = place / RECIPE_FILE
    return {RECIPE_FILE: _artifact(recipe)} if recipe.is_file() else {}


def _listed(directory: Path, files: Mapping[str, str]) -> dict[str, Artifact]:
    """The files that are there of those that a document beside them lists."""
    root, found = directory.resolve(), {}
    for name, digest in files.items():
        path = directory / name
        if path.resolve().is_relative_to(root) and path.is_file():
            found[name] = Artifact(path, digest)
    return found


def _artifact(path: Path) -> Artifact:
    return Artifact(path, file_sha256(path))
