"""Compressed weights: what is stored is what the layer multiplies with, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import AutoSparseError
from autosparse.levels.weights import CompressedWeight

INTEGERS = np.array([[1, -2, 0, 127], [0, 0, -127, 3]], dtype=np.int8)
SCALES = np.array([0.1, 1 / 3], dtype=np.float32)
BIAS = np.array([1.5, -2.5], dtype=np.float32)


def test_an_integer_weight_has_the_values_of_its_grid() -> None:
    weight = CompressedWeight.quantized(INTEGERS, SCALES)
    assert weight.values.dtype == np.float32
    np.testing.assert_array_equal(weight.values[0], np.array([0.1, -0.2, 0.0, 12.7], np.float32))
    assert weight.values[1, 2] == np.float32(-127) * SCALES[1]


def test_every_block_has_a_step_of_its_own(tmp_path: Path) -> None:
    scales = np.array([[0.1, 1 / 3], [2.0, 0.5]], dtype=np.float32)
    weight = CompressedWeight.quantized(INTEGERS, scales)
    assert weight.block == 2
    assert CompressedWeight.quantized(INTEGERS, SCALES).block is None
    steps = np.repeat(scales, 2, axis=1)
    assert weight.values.tobytes() == (INTEGERS.astype(np.float32) * steps).tobytes()
    weight.save(tmp_path / "weight.npz")
    again = CompressedWeight.load(tmp_path / "weight.npz")
    assert again.block == 2
    assert again.values.tobytes() == weight.values.tobytes()


def test_blocks_that_do_not_fit_are_our_own_mistake() -> None:
    scales = np.ones((2, 3), dtype=np.float32)
    with pytest.raises(AutoSparseError, match="4 columns do not split into 3 equal blocks"):
        CompressedWeight(values=np.zeros((2, 4), np.float32), integers=INTEGERS, scales=scales)


def test_sparsity_is_counted() -> None:
    assert CompressedWeight.quantized(INTEGERS, SCALES).sparsity == pytest.approx(3 / 8)
    assert CompressedWeight(values=np.zeros((0, 4), np.float32)).sparsity == 1.0


@pytest.mark.parametrize("bias", [None, BIAS], ids=["no bias", "bias"])
@pytest.mark.parametrize("is_integer", [True, False])
def test_a_file_gives_the_same_weight_again(
    tmp_path: Path, bias: np.ndarray | None, is_integer: bool
) -> None:
    values = np.array([[1e-42, -0.0, 3.4e38], [1, 2, 3]], dtype=np.float32)
    weight = (
        CompressedWeight.quantized(INTEGERS, SCALES, bias=bias)
        if is_integer
        else CompressedWeight(values=values, bias=bias)
    )
    path = tmp_path / "weight.npz"
    weight.save(path)
    again = CompressedWeight.load(path)
    assert again.values.tobytes() == weight.values.tobytes()
    for name in ("integers", "scales", "bias"):
        mine, theirs = getattr(weight, name), getattr(again, name)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)


def test_integers_are_stored_in_place_of_the_values_they_give(tmp_path: Path) -> None:
    path = tmp_path / "weight.npz"
    CompressedWeight.quantized(INTEGERS, SCALES).save(path)
    with np.load(path) as arrays:
        assert sorted(arrays.files) == ["integers", "scales"]


def test_integers_without_scales_are_our_own_mistake() -> None:
    with pytest.raises(AutoSparseError, match="come together"):
        CompressedWeight(values=np.zeros((2, 4), np.float32), integers=INTEGERS)
