"""Large data stay in their file: they are mapped, checked, and gathered row by row."""

from __future__ import annotations

import mmap
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autosparse.datasets import Dataset, batches, load_dataset, npz
from autosparse.datasets import dataset as dataset_module
from autosparse.errors import DataError
from autosparse.tensor_spec import TensorSpec
from tests.models import Array

SPECS = (TensorSpec("x", np.dtype(np.float32), ("batch", 3)),)
X = np.arange(60, dtype=np.float32).reshape(20, 3)


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "MAPPED_FROM_BYTES", 300)


def is_mapped(array: Array) -> bool:
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(base, mmap.mmap)


def saved(path: Path, save: Callable[..., None] = np.savez, **arrays: Array) -> Dataset:
    save(path / "data.npz", **arrays)
    return load_dataset(path / "data.npz", SPECS, "validation")


def test_large_members_are_mapped_and_small_ones_are_read(tmp_path: Path) -> None:
    data = saved(tmp_path, x=X, labels=np.arange(20))
    assert is_mapped(data.inputs["x"])
    assert data.labels is not None
    assert not is_mapped(data.labels)
    np.testing.assert_array_equal(data.inputs["x"], X)
    np.testing.assert_array_equal(data.labels, np.arange(20))
    assert not data.inputs["x"].flags.writeable


@pytest.mark.parametrize(
    ("save", "array"),
    [(np.savez_compressed, X), (np.savez, np.asfortranarray(X))],
    ids=["compressed", "stored by columns"],
)
def test_what_cannot_be_mapped_is_read(
    tmp_path: Path, save: Callable[..., None], array: Array
) -> None:
    data = saved(tmp_path, save, x=array)
    assert not is_mapped(data.inputs["x"])
    np.testing.assert_array_equal(data.inputs["x"], X)


def test_damage_in_a_mapped_array_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=X)
    content = bytearray(path.read_bytes())
    content[content.index(X[7].tobytes()) + 1] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="not an npz file"):
        load_dataset(path, SPECS, "validation")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", bytes(500))
    with pytest.raises(DataError, match="not an npz file"):
        load_dataset(path, SPECS, "validation")


@pytest.mark.parametrize("row", [0, 6, 19])
def test_nan_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    monkeypatch.setattr(dataset_module, "_CHECKED_AT_ONCE", 7)  # two rows
    broken = X.copy()
    broken[[row, 19]] = np.nan
    with pytest.raises(DataError, match=f"first in row {row}$|first in row {row} "):
        saved(tmp_path, x=broken)


def test_a_half_copies_nothing_until_rows_are_asked_for(tmp_path: Path) -> None:
    data = saved(tmp_path, x=X, labels=np.arange(20))
    for half in data.split(seed=1):
        assert half.labels is not None
        # what is kept of a half are the numbers of its rows
        assert half.inputs["x"] is not half.inputs["x"]
        np.testing.assert_array_equal(half.inputs["x"], X[half.labels])
        found = [batch["x"][:real] for batch, real in batches(half.inputs, 3)]
        np.testing.assert_array_equal(np.concatenate(found), X[half.labels])
        few = half.rows(slice(2, 5))
        np.testing.assert_array_equal(few.inputs["x"], X[half.labels[2:5]])
        assert (len(half), len(few)) == (10, 3)


def test_a_half_travels_without_the_other(tmp_path: Path) -> None:
    half, _ = saved(tmp_path, x=np.tile(X, (50, 1))).split(seed=1)
    sent = pickle.dumps(half)
    assert len(sent) < 0.6 * 50 * X.nbytes
    np.testing.assert_array_equal(pickle.loads(sent).inputs["x"], half.inputs["x"])
    assert len(pickle.loads(sent)) == 500


def test_memory_that_does_not_suffice_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **more: object) -> Array:
        raise MemoryError

    np.savez_compressed(tmp_path / "data.npz", x=X)
    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(DataError, match=r"data\.npz announces arrays that do not fit into memory"):
        load_dataset(tmp_path / "data.npz", SPECS, "validation")
