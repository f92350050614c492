"""Data that people bring: every mistake is told in one sentence, and nothing is executed."""

from __future__ import annotations

import pickle
import random
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from autosparse.datasets import Dataset, load_dataset
from autosparse.errors import DataError
from autosparse.tensor_spec import TensorSpec
from tests.models import Array

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
SPECS = (TensorSpec("x", F32, ("batch", 3)), TensorSpec("ids", I64, ("batch", "length")))
X, IDS = np.ones((4, 3), np.float32), np.zeros((4, 7), np.int64)
Loader = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    """Save the arrays and load them again."""

    def save_and_load(specs: Sequence[TensorSpec] = SPECS, **arrays: Array) -> Dataset:
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return load_dataset(path, specs, "validation")

    return save_and_load


def test_arrays_are_named_like_the_inputs(load: Loader) -> None:
    labels = np.arange(4)
    data = load(x=X, ids=IDS, labels=labels)
    assert len(data) == 4
    assert list(data.inputs) == ["x", "ids"]
    np.testing.assert_array_equal(data.inputs["ids"], IDS)
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, labels)
    assert data.pair_inputs is None


def test_labels_may_be_left_out(load: Loader) -> None:
    assert load(x=X, ids=IDS).labels is None


def test_rows_of_a_fixed_batch_may_be_any_number(load: Loader) -> None:
    assert len(load((TensorSpec("x", F32, (1, 3)),), x=X)) == 4


def test_pairs_carry_the_suffix_and_scores(load: Loader) -> None:
    scores = np.linspace(0, 1, 4)
    data = load(x=X, ids=IDS, x_b=2 * X, ids_b=IDS + 1, scores=scores)
    assert data.pair_inputs is not None
    np.testing.assert_array_equal(data.pair_inputs["x"], 2 * X)
    np.testing.assert_array_equal(data.pair_inputs["ids"], IDS + 1)
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, scores)


def test_an_input_that_is_called_like_a_second_half_is_an_input(load: Loader) -> None:
    specs = (TensorSpec("x", F32, ("n", 3)), TensorSpec("x_b", F32, ("n", 3)))
    data = load(specs, x=X, x_b=3 * X)
    assert data.pair_inputs is None
    np.testing.assert_array_equal(data.inputs["x_b"], 3 * X)


WRONG: list[tuple[str, dict[str, Array], str, str]] = [
    ("missing", {"x": X}, "has no array 'ids'; it has x", "ids: int64 (batch, length)"),
    ("nothing at all", {}, "has no array 'x'; it has none", "x: float32"),
    ("unknown", {"x": X, "ids": IDS, "image": X}, "array 'image', which is no input", "ids, x"),
    ("dtype", {"x": X.astype(np.float64), "ids": IDS}, "'x' of the validation file is float64",
     ".astype(float32)"),
    ("integers for floats", {"x": X, "ids": IDS.astype(np.int32)}, "'ids'", ".astype(int64)"),
    ("too few axes", {"x": X[0], "ids": IDS}, "has the shape (3,)", "first axis counts the rows"),
    ("too many axes", {"x": X[..., None], "ids": IDS}, "shape (4, 3, 1)", "first axis"),
    ("other size", {"x": X[:, :2], "ids": IDS}, "has the shape (4, 2)", "first axis"),
    ("nan", {"x": np.where(np.arange(4)[:, None] == 2, np.nan, X).astype("f"), "ids": IDS},
     "NaN or infinite values, first in row 2", "repair"),
    ("infinity", {"x": np.full((4, 3), -np.inf, "f"), "ids": IDS}, "first in row 0", "repair"),
    ("rows differ", {"x": X, "ids": IDS[:3]}, "different numbers of rows: 3, 4", ""),
    ("labels differ", {"x": X, "ids": IDS, "labels": np.arange(5)}, "of rows: 4, 5", ""),
    ("one label", {"x": X, "ids": IDS, "labels": np.array(1)}, "of rows: 0, 4", ""),
    ("no rows", {"x": X[:0], "ids": IDS[:0]}, "has no rows", ""),
    ("half a pair", {"x": X, "ids": IDS, "x_b": X}, "has no array 'ids_b'", "ids"),
    ("second half differs", {"x": X, "ids": IDS, "x_b": X[:2], "ids_b": IDS}, "of rows: 2, 4", ""),
    ("second half's dtype", {"x": X, "ids": IDS, "x_b": X.astype("d"), "ids_b": IDS}, "'x_b'",
     "float32"),
    ("text", {"x": X, "ids": np.array(["a"] * 4)}, "'ids' of the validation file is <U1", "int64"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arrays", "message", "hint"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_a_mistake_is_told_with_what_to_do(
    load: Loader, arrays: dict[str, Array], message: str, hint: str
) -> None:
    with pytest.raises(DataError) as caught:
        load(**arrays)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


class Booby:
    """Unpickling it leaves a trace."""

    trace: Path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.trace,)


def test_nothing_in_a_file_is_ever_executed(tmp_path: Path) -> None:
    trap = Booby()
    trap.trace = tmp_path / "sprung"
    objects = np.empty(4, dtype=object)
    objects[:] = [trap] * 4
    np.savez(tmp_path / "objects.npz", x=objects)
    (tmp_path / "pickled.npz").write_bytes(pickle.dumps({"x": trap}))
    np.save(tmp_path / "array.npy", objects)
    for name in ("objects.npz", "pickled.npz", "array.npy"):
        with pytest.raises(DataError, match="not an npz file of plain arrays"):
            load_dataset(tmp_path / name, SPECS, "calibration")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"x,y\n1,2\n", b"PK\x03\x04", b"PK\x05\x06" + bytes(17), b"\x93NUMPY", b"\x00" * 1000],
    ids=["empty", "csv", "start of a zip", "end of a zip", "start of an npy", "zeros"],
)
def test_other_files_are_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"validation file data\.npz is not an npz file"):
        load_dataset(path, SPECS, "validation")


def test_an_empty_archive_has_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(DataError, match="has no array 'x'; it has none"):
        load_dataset(path, SPECS, "validation")


def test_a_member_that_is_no_array_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "just text")
    with pytest.raises(DataError, match="array 'x' of the validation file is"):
        load_dataset(path, SPECS[:1], "validation")


def test_one_bare_array_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, X)
    with pytest.raises(DataError, match=r"data\.npy holds one bare array") as caught:
        load_dataset(path, SPECS, "validation")
    assert "numpy.savez" in caught.value.hint


def test_missing_files_and_directories_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no calibration file .*gone\.npz"):
        load_dataset(tmp_path / "gone.npz", SPECS, "calibration")
    with pytest.raises(DataError, match="is not an npz file"):
        load_dataset(tmp_path, SPECS, "calibration")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_a_data_error_or_fine(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "data.npz"
    save(path, x=np.arange(60, dtype=np.float32).reshape(20, 3), labels=np.arange(20))
    whole = path.read_bytes()
    refused = 0
    for seed in range(300):
        draw = random.Random(seed)
        damaged = bytearray(whole)
        if seed % 3 == 0:
            del damaged[draw.randrange(len(whole)) :]
        elif seed % 3 == 1:
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        else:
            start = draw.randrange(len(whole))
            del damaged[start : start + draw.randint(1, 20)]
        path.write_bytes(damaged)
        told = complaint(path)
        assert "\n" not in told
        refused += bool(told)
    assert refused > 200


def complaint(path: Path) -> str:
    """What is wrong with the file; empty where it is fine."""
    try:
        load_dataset(path, SPECS[:1], "validation")
    except DataError as error:
        return str(error)
    return ""
