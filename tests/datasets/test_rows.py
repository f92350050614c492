"""Rows: how they are split and how they come in batches."""

from __future__ import annotations

import numpy as np
import pytest

from autosparse.datasets import Dataset, batches
from autosparse.errors import DataError


def numbered(rows: int) -> Dataset:
    """Every array tells its row's number."""
    number = np.arange(rows)
    return Dataset(
        inputs={"x": number[:, None] + np.zeros((1, 2)), "y": number * 10},
        labels=number * 100,
        pair_inputs={"x": number[:, None] + 0.5, "y": number * 10 + 5},
    )


@pytest.mark.parametrize("rows", [2, 3, 10, 101])
def test_a_split_is_disjoint_and_complete(rows: int) -> None:
    selecting, gating = numbered(rows).split(seed=0)
    assert abs(len(selecting) - len(gating)) <= 1
    both = np.concatenate([selecting.inputs["y"], gating.inputs["y"]])
    np.testing.assert_array_equal(np.sort(both), np.arange(rows) * 10)


def test_the_parts_of_a_row_stay_together() -> None:
    for part in numbered(50).split(seed=3):
        number = part.inputs["x"][:, 0].astype(np.float64)
        assert part.labels is not None
        assert part.pair_inputs is not None
        np.testing.assert_array_equal(part.inputs["y"], number * 10)
        np.testing.assert_array_equal(part.labels, number * 100)
        np.testing.assert_array_equal(part.pair_inputs["x"][:, 0], number + 0.5)
        np.testing.assert_array_equal(part.pair_inputs["y"], number * 10 + 5)


def test_a_split_depends_on_the_seed_only() -> None:
    first, again, other = (numbered(50).split(seed)[0].inputs["y"] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, np.arange(25) * 10)


def test_one_row_cannot_be_split() -> None:
    with pytest.raises(DataError, match="has one row") as caught:
        numbered(1).split(seed=0)
    assert "at least two rows" in caught.value.hint


def test_rows_without_labels_stay_without() -> None:
    part = Dataset(inputs={"x": np.arange(4)}).rows(slice(1, 3))
    assert len(part) == 2
    assert part.labels is None
    assert part.pair_inputs is None


@pytest.mark.parametrize(
    ("rows", "size", "wanted"),
    [
        (5, 2, [([0, 1], 2), ([2, 3], 2), ([4, 4], 1)]),
        (4, 2, [([0, 1], 2), ([2, 3], 2)]),
        (1, 4, [([0, 0, 0, 0], 1)]),
        (3, 1, [([0], 1), ([1], 1), ([2], 1)]),
    ],
)
def test_the_last_batch_is_filled_up_with_its_own_last_row(
    rows: int, size: int, wanted: list[tuple[list[int], int]]
) -> None:
    inputs = {"x": np.arange(rows), "y": np.arange(rows)[:, None] * 2}
    found = list(batches(inputs, size))
    assert [(batch["x"].tolist(), real) for batch, real in found] == wanted
    for batch, _ in found:
        np.testing.assert_array_equal(batch["y"][:, 0], batch["x"] * 2)
