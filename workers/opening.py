"""Opening a file for timing, and what memory that takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from autosparse.evaluation import Backend, LoweredModel
from autosparse.evaluation.backend import Array
from autosparse.evaluation.peak_memory import peak_growth

# The second inference may allocate by a plan that the first one made.
_RUNS_TO_THE_PEAK = 2
_Library = tuple[str, int, int]


class Opener:
    """Opens the files of one measuring process.

    A runtime and its kernels come into memory once, with whichever file is opened first. So a
    file that needs what this process has not loaded yet is opened once before it counts.
    """

    def __init__(self) -> None:
        self._loaded: set[_Library] = set()

    def open(
        self, backend: Backend, model: LoweredModel, threads: int, inputs: Mapping[str, Array]
    ) -> tuple[Callable[[], object], int | None]:
        """Open a file and run it.

        Returns:
            What runs one inference, and the peak memory of opening and running in bytes; None
            where the system does not tell.

        Raises:
            MeasurementError: the runtime refuses the file or the inputs.
        """
        opening = partial(_opened, backend, model, threads, inputs)
        library = _library(backend, model)
        if library not in self._loaded:
            opening()
            self._loaded.add(library)
        return peak_growth(opening)


def _opened(
    backend: Backend, model: LoweredModel, threads: int, inputs: Mapping[str, Array]
) -> Callable[[], object]:
    run = partial(backend.open(model, threads=threads).run, inputs)
    for _ in range(_RUNS_TO_THE_PEAK):
        run()
    return run


def _library(backend: Backend, model: LoweredModel) -> _Library:
    """The runtime, with the kernels: equal files by other names are loaded once."""
    if model.library_path is None or not model.library_path.exists():
        return backend.name, 0, 0  # opening says what is missing
    found = model.library_path.stat()
    return backend.name, found.st_dev, found.st_ino
