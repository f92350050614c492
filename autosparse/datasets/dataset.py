"""Data that people bring: one npz with arrays named like the model's inputs, plus `labels`.

For a metric that compares two inputs (sentence similarity), the second set of inputs carries the
suffix `_b`, and `scores` takes the place of `labels`.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from autosparse.datasets.npz import Array, mapped_members
from autosparse.errors import DataError, where_it_was_sought
from autosparse.tensor_spec import TensorSpec

Augmentation = Literal["flip", "shift"]
"""A change of images that leaves their meaning, where the user says that it does."""
LABELS, SCORES, PAIR_SUFFIX = "labels", "scores", "_b"
# Values that are looked at together, so that a mapped file is not all in memory for it.
_CHECKED_AT_ONCE = 1 << 22
# What an archive that is damaged, encrypted, no archive, or holds objects makes its readers raise:
# the file itself, zipfile and the decompressors behind it, and numpy's reader of headers, which
# has Python parse them and makes a type of what it finds.
_DAMAGED = (
    OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, KeyError,
    NotImplementedError, RuntimeError, ValueError, SyntaxError, tokenize.TokenError, TypeError,
    OverflowError,
)  # fmt: skip


class ChosenRows(Mapping[str, Array]):
    """Some rows of arrays by name, gathered whenever they are looked at: no copy is kept.

    Args:
        arrays: name -> (rows, ...).
        chosen: numbers of the rows.
    """

    def __init__(self, arrays: Mapping[str, Array], chosen: npt.NDArray[np.int64]) -> None:
        self._arrays = arrays
        self.chosen = chosen

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name][self.chosen]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple[type[dict[str, Array]], tuple[dict[str, Array]]]:
        # who gets them by pickle gets these rows, and no others
        return dict, (dict(self),)

    def at(self, places: npt.NDArray[np.int64] | slice) -> dict[str, Array]:
        """Some of these rows, by their places among them."""
        return {name: array[self.chosen[places]] for name, array in self._arrays.items()}


def rows_at(arrays: Mapping[str, Array], places: npt.NDArray[np.int64] | slice) -> dict[str, Array]:
    """Some rows of every array; no more than those are read."""
    if isinstance(arrays, ChosenRows):
        return arrays.at(places)
    return {name: array[places] for name, array in arrays.items()}


def _count(arrays: Mapping[str, Array]) -> int:
    if isinstance(arrays, ChosenRows):
        return len(arrays.chosen)
    return len(next(iter(arrays.values())))


@dataclass(frozen=True)
class Dataset:
    """Rows of every input, aligned; optionally the second halves of pairs, and what is true."""

    inputs: Mapping[str, Array]
    """Input name -> (rows, ...)."""
    labels: Array | None = None
    """(rows, ...): class indices, or the scores of pairs."""
    pair_inputs: Mapping[str, Array] | None = None
    """Inputs of the second half of each pair, under the same names."""

    def __len__(self) -> int:
        return _count(self.inputs)

    def rows(self, chosen: npt.NDArray[np.int64] | slice) -> Dataset:
        """The chosen rows."""
        pairs = self.pair_inputs
        return Dataset(
            inputs=rows_at(self.inputs, chosen),
            labels=None if self.labels is None else self.labels[chosen],
            pair_inputs=None if pairs is None else rows_at(pairs, chosen),
        )

    def split(self, seed: int) -> tuple[Dataset, Dataset]:
        """Two halves drawn at random: one that selects, one that gates.

        Their inputs stay where they are: a half gathers the rows that it is asked for.

        Raises:
            DataError: fewer than two rows.
        """
        if len(self) < 2:
            raise DataError(
                "the validation file has one row; it is split into a part that selects and a "
                "part that gates",
                hint="give at least two rows, better some hundreds",
            )
        first, second = halves(len(self), seed)
        return self._half(first), self._half(second)

    def _half(self, chosen: npt.NDArray[np.int64]) -> Dataset:
        pairs = self.pair_inputs
        return Dataset(
            inputs=ChosenRows(self.inputs, chosen),
            labels=None if self.labels is None else self.labels[chosen],
            pair_inputs=None if pairs is None else ChosenRows(pairs, chosen),
        )


def halves(rows: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers of the rows in each of the two halves that `Dataset.split` draws."""
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[: rows // 2]), np.sort(order[rows // 2 :])


def batches(inputs: Mapping[str, Array], size: int) -> Iterator[tuple[dict[str, Array], int]]:
    """Yield consecutive batches of exactly `size` rows, and how many rows of each are real.

    The last batch is filled up with its own last row: a model with a fixed batch takes no other
    size, and a repeated real row meets no value that the data do not hold.
    """
    total = _count(inputs)
    for start in range(0, total, size):
        real = min(size, total - start)
        chosen = np.minimum(np.arange(start, start + size), total - 1)
        yield rows_at(inputs, chosen), real


def load_dataset(path: Path, specs: Sequence[TensorSpec], role: str) -> Dataset:
    """Read and check one npz file.

    Args:
        path: the file.
        specs: the model's inputs.
        role: `calibration`, `validation` ...: named in errors.

    Raises:
        DataError: in one sentence, which array is wrong and what to do.
    """
    arrays = _read(path, role)
    names = {spec.name for spec in specs}
    paired = any(name + PAIR_SUFFIX in arrays.keys() - names for name in names)
    known = names | ({SCORES, *(name + PAIR_SUFFIX for name in names)} if paired else {LABELS})
    unknown = sorted(set(arrays) - known)
    if unknown:
        raise DataError(
            f"the {role} file {path.name} holds the array {unknown[0]!r}, which is no input of "
            "the model",
            hint=f"name the arrays like the inputs: {', '.join(sorted(names))}, plus labels "
            f"(or, for pairs, the same names with {PAIR_SUFFIX}, plus scores)",
        )
    inputs = {spec.name: _checked(arrays, spec.name, spec, role) for spec in specs}
    pairs = (
        {spec.name: _checked(arrays, spec.name + PAIR_SUFFIX, spec, role) for spec in specs}
        if paired
        else None
    )
    truth = arrays.get(SCORES) if paired else arrays.get(LABELS)
    every = [*inputs.values(), *(pairs or {}).values(), *([] if truth is None else [truth])]
    rows = {array.shape[0] if array.ndim else 0 for array in every}
    if len(rows) != 1:
        raise DataError(
            f"the arrays of the {role} file {path.name} have different numbers of rows: "
            f"{', '.join(map(str, sorted(rows)))}"
        )
    if rows == {0}:
        raise DataError(f"the {role} file {path.name} has no rows")
    return Dataset(inputs=inputs, labels=truth, pair_inputs=pairs)


def _read(path: Path, role: str) -> dict[str, Array]:
    try:
        # NumPy leaves a damaged file open when it opens it itself
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                mapped = mapped_members(path)
                # a member that is no array comes as bytes
                return {
                    name: mapped[name] if name in mapped else np.asarray(loaded[name])
                    for name in loaded.files
                }
    except FileNotFoundError as error:
        raise DataError(
            f"there is no {role} file {path}", hint=where_it_was_sought(path)
        ) from error
    except PermissionError as error:
        raise DataError(f"the {role} file {path} cannot be read: {error.strerror}") from error
    except MemoryError as error:  # a damaged header may also announce more than there is
        raise DataError(
            f"the {role} file {path.name} announces arrays that do not fit into memory",
            hint="save it with numpy.savez, not savez_compressed: it then stays in its file. Or "
            "give fewer rows; if it should be small, it is damaged",
        ) from error
    except _DAMAGED as error:
        raise DataError(
            f"the {role} file {path.name} is not an npz file of plain arrays",
            hint="save it with numpy.savez(path, input=..., labels=...), without objects",
        ) from error
    raise DataError(
        f"the {role} file {path.name} holds one bare array",
        hint="save named arrays with numpy.savez(path, input=..., labels=...)",
    )


def _checked(arrays: Mapping[str, Array], name: str, spec: TensorSpec, role: str) -> Array:
    array = arrays.get(name)
    if array is None:
        raise DataError(
            f"the {role} file has no array {name!r}; it has {', '.join(sorted(arrays)) or 'none'}",
            hint=f"the model's input is {spec}",
        )
    if array.dtype != spec.dtype:
        raise DataError(
            f"array {name!r} of the {role} file is {array.dtype}, the model's input is {spec}",
            hint=f"save it with .astype({spec.dtype})",
        )
    fits = array.ndim == len(spec.shape) and all(
        axis == 0 or isinstance(dim, str) or dim == size
        for axis, (dim, size) in enumerate(zip(spec.shape, array.shape, strict=True))
    )
    if not fits:
        raise DataError(
            f"array {name!r} of the {role} file has the shape {array.shape}, the model's input is "
            f"{spec}",
            hint="the first axis counts the rows, the others are the model's",
        )
    broken = _first_broken_row(array)
    if broken is not None:
        raise DataError(
            f"array {name!r} of the {role} file has NaN or infinite values, first in row {broken}",
            hint="remove those rows or repair them",
        )
    return array


def _first_broken_row(array: Array) -> int | None:
    """Number of the first row that is not finite, looking at some rows at a time."""
    if not np.issubdtype(array.dtype, np.floating) or array.ndim == 0 or array.size == 0:
        return None
    size = max(_CHECKED_AT_ONCE * len(array) // array.size, 1)
    for start in range(0, len(array), size):
        part = array[start : start + size]
        finite = np.isfinite(part.reshape(len(part), -1)).all(axis=1)
        if not finite.all():
            return start + int(finite.argmin())
    return None
