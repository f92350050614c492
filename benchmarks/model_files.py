"""A model to benchmark, as the files that a job takes, and rows that no job sees."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from autosparse.datasets import Dataset

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Sizes:
    """Rows of each part of the data."""

    calibration: int
    validation: int
    """Given to the job, which selects on one half and gates on the other."""
    held_out: int
    """Given to nobody: what is compared is compared on these."""


@dataclass(frozen=True)
class ModelFiles:
    """One model, ready for a job."""

    name: str
    onnx: Path
    calibration: Path
    validation: Path
    held_out: Dataset
    """Rows that no job sees; with what is true where that is known."""
    metric: str
    """Divergence by which quality is judged: no labels are given to the job."""
    input_shapes: tuple[str, ...] = ()
    """`name=1,128` for inputs with free dimensions besides the batch."""
    labels_metric: str = ""
    """Metric that holds answers to the held-out rows against what is true; empty where that is not
    known, or the model was never taught it."""
    toolkit_operators: tuple[str, ...] | None = None
    """Operators that the toolkit's INT8 is restricted to; None for its own choice."""

    @property
    def given_bytes(self) -> int:
        """Size of everything that a job is given."""
        return sum(p.stat().st_size for p in (self.onnx, self.calibration, self.validation))


@dataclass(frozen=True)
class ModelRequest:
    """What a builder of models works from."""

    assets: Path
    directory: Path
    """Empty, for the files of this model."""
    sizes: Sizes


class UnavailableError(Exception):
    """Raised by a builder: a file or package that this model needs is not here."""


Made = TypeVar("Made")

ModelBuilder = Callable[[ModelRequest], ModelFiles]


def made_once(directory: Path, make: Callable[[Path], Made]) -> Made:
    """What `make` makes in an empty directory; where it did so before, that very thing.

    A job that is resumed takes no other files, and an export need not come out alike.
    """
    kept = directory / "made.pickle"
    if kept.is_file():
        stored: Made = pickle.loads(kept.read_bytes())
        return stored
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    found = make(directory)
    kept.write_bytes(pickle.dumps(found))
    return found


def asset(request: ModelRequest, name: str) -> Path:
    """A file of the assets.

    Raises:
        UnavailableError: it is not there.
    """
    path = request.assets / name
    if not path.is_file():
        raise UnavailableError(f"there is no {name} in the folder given with --assets")
    return path


def write_parts(
    directory: Path, calibration: Mapping[str, Array], validation: Mapping[str, Array]
) -> tuple[Path, Path]:
    """Write the two files that a job takes: inputs only, no labels."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = directory / "calibration.npz", directory / "validation.npz"
    for path, arrays in zip(paths, (calibration, validation), strict=True):
        np.savez(path, **arrays)  # type: ignore[arg-type]
    return paths
