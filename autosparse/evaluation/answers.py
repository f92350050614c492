"""Answers: what a model says to the rows of a data set, batch by batch, and where they are kept.

A language model's answers to some hundreds of rows take more memory than most machines have. So
whoever judges answers sees one batch after the other. Only the dense model's are kept, since every
candidate is held against them: a few in memory, many in files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from autosparse.datasets import Dataset, batches
from autosparse.errors import MeasurementError
from autosparse.evaluation.backend import Runner
from autosparse.evaluation.scores import Array, Floats, Outputs
from autosparse.journal import stored_safely

Batch = tuple[slice, Outputs]
"""Which rows of a data set, and the answers to them."""
IN_MEMORY_BYTES = 64 << 20
"""Answers that are kept go to files from this size on."""


def answered(runner: Runner, data: Dataset, batch_size: int) -> Iterator[Batch]:
    """Run a file over data.

    Raises:
        MeasurementError: the runtime fails on a row, or an output has no row axis.
    """
    pairs = None if data.pair_inputs is None else batches(data.pair_inputs, batch_size)
    start = 0
    for batch, real in batches(data.inputs, batch_size):
        values = _run(runner, batch, batch_size, real)
        pair_values = None if pairs is None else _run(runner, next(pairs)[0], batch_size, real)
        yield slice(start, start + real), Outputs(values, pair_values)
        start += real


def _run(runner: Runner, batch: Mapping[str, Array], rows: int, real: int) -> dict[str, Array]:
    answers = runner.run(batch)
    for name, values in answers.items():
        if values.ndim == 0 or values.shape[0] != rows:
            raise MeasurementError(
                f"output {name!r} has the shape {values.shape} for {rows} rows: its first axis "
                "does not count rows"
            )
    return {name: values[:real] for name, values in answers.items()}


def in_batches(answers: Answers, rows: int, size: int) -> Iterator[Batch]:
    """Answers that are there already, as if they came."""
    for start in range(0, rows, size):
        chosen = slice(start, min(start + size, rows))
        yield chosen, answers.rows(chosen)


def run_dataset(runner: Runner, data: Dataset, batch_size: int) -> Outputs:
    """Every output of every row, in memory.

    Raises:
        MeasurementError: the runtime fails on a row, or an output has no row axis.
    """
    return gathered(answered(runner, data, batch_size), len(data))


def gathered(answers: Iterable[Batch], rows: int) -> Outputs:
    """All answers, in memory."""
    keeper = Keeper(rows)
    for _ in keeper.passing(answers):
        pass
    return keeper.kept.loaded()


class Answers(Protocol):
    """All answers to the rows of a data set, wherever they lie."""

    def rows(self, chosen: slice) -> Outputs:
        """The answers to consecutive rows."""

    def loaded(self) -> Outputs:
        """All of them in memory, for a machine that does not see the files."""


@dataclass(frozen=True)
class StoredArray:
    """One output in a file, row after row."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def rows(self, chosen: slice) -> Array:
        """Some rows, read anew: a map of the file would keep what was looked at."""
        start, stop, _ = chosen.indices(self.shape[0])
        shape = (stop - start, *self.shape[1:])
        items = math.prod(self.shape[1:])
        found = np.fromfile(
            self.path, self.dtype, math.prod(shape), offset=start * items * self.dtype.itemsize
        )
        return found.reshape(shape)


@dataclass(frozen=True)
class StoredOutputs:
    """Implements `Answers` in files. Pickled, it is a few paths."""

    values: Mapping[str, StoredArray]
    pair_values: Mapping[str, StoredArray] | None

    def rows(self, chosen: slice) -> Outputs:
        """See `Answers.rows`."""

        def half(arrays: Mapping[str, StoredArray]) -> dict[str, Array]:
            return {name: array.rows(chosen) for name, array in arrays.items()}

        pairs = None if self.pair_values is None else half(self.pair_values)
        return Outputs(half(self.values), pairs)

    def loaded(self) -> Outputs:
        """See `Answers.loaded`."""
        return self.rows(slice(None))


@dataclass(frozen=True)
class Reference:
    """The dense model on some rows: what candidates are held against."""

    answers: Answers
    scores: Floats
    """(rows,) by the job's metric."""


class _InMemory:
    """One output's rows, in an array that is there from the start."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self.shape = shape
        self.values: Array = np.empty(shape, dtype)

    def put(self, rows: slice, values: Array) -> None:
        self.values[rows] = values


class _InFile:
    """One output's rows, appended to a file: a full disk is told so."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self.shape = shape
        self.stored = StoredArray(path, shape, dtype)

    def put(self, rows: slice, values: Array) -> None:
        path = self.stored.path
        with stored_safely(path), path.open("ab") as file:
            file.write(np.ascontiguousarray(values, self.stored.dtype).data)


class Keeper:
    """Keeps answers as they pass by.

    Args:
        rows: how many there will be.
        directory: an empty one, for what is too large for memory; None to keep all in memory.
    """

    def __init__(self, rows: int, directory: Path | None = None) -> None:
        self._rows = rows
        self._directory = directory
        self._memory: list[dict[str, _InMemory]] = []
        self._files: list[dict[str, _InFile]] = []

    def passing(self, answers: Iterable[Batch]) -> Iterator[Batch]:
        """The same answers, once they are kept.

        Raises:
            MeasurementError: an output has another shape in one batch than in the other.
            StorageError: the disk is full.
        """
        for rows, outputs in answers:
            halves = [outputs.values]
            if outputs.pair_values is not None:
                halves.append(outputs.pair_values)
            if not self._memory and not self._files:
                self._begin(halves, rows.stop - rows.start)
            kept: Sequence[Mapping[str, _InMemory | _InFile]] = self._memory or self._files
            for columns, half in zip(kept, halves, strict=True):
                for name, values in half.items():
                    _put(columns[name], name, rows, values)
            yield rows, outputs

    @property
    def kept(self) -> Answers:
        """All answers, once they have passed."""
        if self._files:
            files = [{n: column.stored for n, column in half.items()} for half in self._files]
            return StoredOutputs(files[0], files[1] if len(files) > 1 else None)
        arrays = [{n: column.values for n, column in half.items()} for half in self._memory]
        return Outputs(arrays[0], arrays[1] if len(arrays) > 1 else None)

    def _begin(self, halves: list[Mapping[str, Array]], rows: int) -> None:
        size = sum(values.nbytes for half in halves for values in half.values())
        directory = self._directory if size // rows * self._rows > IN_MEMORY_BYTES else None
        for number, half in enumerate(halves):
            shapes = {name: (self._rows, *values.shape[1:]) for name, values in half.items()}
            if directory is None:
                self._memory.append({n: _InMemory(shapes[n], v.dtype) for n, v in half.items()})
                continue
            # names of outputs come from the model file: never let them become paths
            paths = {name: directory / f"{number}-{place}.bin" for place, name in enumerate(half)}
            self._files.append({n: _InFile(paths[n], shapes[n], v.dtype) for n, v in half.items()})


def _put(column: _InMemory | _InFile, name: str, rows: slice, values: Array) -> None:
    if values.shape[1:] != column.shape[1:]:
        raise MeasurementError(
            f"output {name!r} has {values.shape[1:]} for one row and {column.shape[1:]} for "
            "another: answers of different shapes cannot be compared"
        )
    column.put(rows, values)
