from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosparse.calibration.streaming_histogram import StreamingHistogram
from autosparse.errors import DataError


def histogram_of(*batches: list[float], bins: int = 8) -> StreamingHistogram:
    seen = StreamingHistogram(bins)
    for batch in batches:
        seen.add("x", np.array(batch, dtype=np.float32))
    return seen


def test_by_hand() -> None:
    seen = histogram_of([-4.0, -0.5, 0.0, 0.0, 1.0, 2.5], bins=4)
    assert seen.edges.tolist() == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
    assert seen.counts.tolist() == [1, 0, 0, 1, 0, 1, 1, 0]
    assert seen.zeros == 2
    assert (seen.low, seen.high) == (-4.0, 2.5)


def test_the_reach_doubles_and_bins_merge_in_pairs() -> None:
    seen = histogram_of([-4.0, -0.5, 1.0, 2.5, 3.5], [9.0], bins=4)
    assert seen.reach == 16.0
    # four doublings of a bin's width: -4 and -0.5 lie in (-4, 0), 1 to 3.5 in (0, 4), 9 in (8, 12)
    assert seen.counts.tolist() == [0, 0, 0, 2, 3, 0, 1, 0]


floats = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@given(st.lists(st.lists(floats, min_size=1, max_size=20), min_size=1, max_size=6))
def test_every_value_is_counted_once_and_in_its_place(batches: list[list[float]]) -> None:
    seen = histogram_of(*batches)
    values = np.concatenate([np.array(batch, dtype=np.float32) for batch in batches])
    nonzero = values[values != 0].astype(np.float64)
    assert seen.zeros + seen.counts.sum() == values.size
    assert (seen.low, seen.high) == (values.min(), values.max())
    if nonzero.size:
        assert seen.reach >= np.abs(nonzero).max()
        width = seen.reach / seen.bins
        # up to a bin's width, the sorted values are where their bins are
        centres = np.repeat((seen.edges[:-1] + seen.edges[1:]) / 2, seen.counts)
        assert np.abs(np.sort(nonzero) - centres).max() <= width * (0.5 + 1e-6)


def test_memory_does_not_grow_with_the_data() -> None:
    seen = histogram_of([1.0], bins=64)
    size = len(pickle.dumps(seen))
    for power in range(30):
        seen.add("x", np.full(1000, 2.0**power, dtype=np.float32))
    assert len(pickle.dumps(seen)) <= size + 64


def test_without_bins_only_the_extremes_are_kept() -> None:
    seen = histogram_of([-1.0, 2.0], [3.0], bins=0)
    assert (seen.low, seen.high) == (-1.0, 3.0)
    assert seen.counts.size == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match="tensor 'x' is not finite"):
        histogram_of([1.0, bad])
