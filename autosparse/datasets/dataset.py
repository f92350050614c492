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

from autosparse.errors import DataError
from autosparse.tensor_spec import TensorSpec

Array = npt.NDArray[np.generic]
Augmentation = Literal["flip", "shift"]
"""A change of images that leaves their meaning, where the user says that it does."""
LABELS, SCORES, PAIR_SUFFIX = "labels", "scores", "_b"
# What an archive that is damaged, encrypted, no archive, or holds objects makes its readers raise:
# the file itself, zipfile and the decompressors behind it, and numpy's reader of headers, which
# has Python parse them and makes a type of what it finds.
_DAMAGED = (
    OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, KeyError,
    NotImplementedError, RuntimeError, ValueError, SyntaxError, tokenize.TokenError, TypeError,
    OverflowError,
)  # fmt: skip


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
        return len(next(iter(self.inputs.values())))

    def rows(self, chosen: npt.NDArray[np.int64] | slice) -> Dataset:
        """The chosen rows."""
        pairs = self.pair_inputs
        return Dataset(
            inputs={name: array[chosen] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[chosen],
            pair_inputs=None if pairs is None else {n: a[chosen] for n, a in pairs.items()},
        )

    def split(self, seed: int) -> tuple[Dataset, Dataset]:
        """Two halves drawn at random: one that selects, one that gates.

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
        return self.rows(first), self.rows(second)


def halves(rows: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers of the rows in each of the two halves that `Dataset.split` draws."""
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[: rows // 2]), np.sort(order[rows // 2 :])


def batches(inputs: Mapping[str, Array], size: int) -> Iterator[tuple[dict[str, Array], int]]:
    """Yield consecutive batches of exactly `size` rows, and how many rows of each are real.

    The last batch is filled up with its own last row: a model with a fixed batch takes no other
    size, and a repeated real row meets no value that the data do not hold.
    """
    total = len(next(iter(inputs.values())))
    for start in range(0, total, size):
        real = min(size, total - start)
        chosen = np.minimum(np.arange(start, start + size), total - 1)
        yield {name: array[chosen] for name, array in inputs.items()}, real


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
                # a member that is no array comes as bytes
                return {name: np.asarray(loaded[name]) for name in loaded.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no {role} file {path}") from error
    except PermissionError as error:
        raise DataError(f"the {role} file {path} cannot be read: {error.strerror}") from error
    except MemoryError as error:  # a damaged header may also announce more than there is
        raise DataError(
            f"the {role} file {path.name} announces arrays that do not fit into memory",
            hint="give fewer rows, or a machine with more memory; if it should be small, save it "
            "again",
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
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        raise DataError(
            f"array {name!r} of the {role} file has NaN or infinite values, first in row {rows[0]}",
            hint="remove those rows or repair them",
        )
    return array
