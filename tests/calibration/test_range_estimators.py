from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from autosparse.calibration.range_estimators import (
    ESTIMATORS,
    entropy,
    min_max,
    percentile,
    range_estimator,
)
from autosparse.calibration.streaming_histogram import StreamingHistogram
from autosparse.errors import ConfigError


def seen(values: npt.ArrayLike, bins: int = 2048) -> StreamingHistogram:
    histogram = StreamingHistogram(bins)
    for batch in np.array_split(np.asarray(values, dtype=np.float32), 4):
        histogram.add("x", batch)
    return histogram


def normal(size: int = 200_000) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal(size)


def test_min_max_holds_everything() -> None:
    assert min_max(seen([-3.0, 0.0, 1.0, 7.0])) == (-3.0, 7.0)


def test_percentile_of_a_uniform_distribution() -> None:
    low, high = percentile(seen(np.linspace(-1, 3, 100_001)), 90.0)
    assert low == pytest.approx(-0.8, abs=0.01)
    assert high == pytest.approx(2.8, abs=0.01)


def test_percentile_of_a_normal_distribution() -> None:
    low, high = percentile(seen(normal()), 95.0)
    assert low == pytest.approx(-1.96, abs=0.03)
    assert high == pytest.approx(1.96, abs=0.03)


def test_percentile_cuts_outliers_and_covers_what_it_should() -> None:
    values = np.concatenate([np.linspace(0.5, 1, 10_000), [50.0]])
    low, high = percentile(seen(values), 99.9)
    assert low == 0.5
    assert 0.99 < high < 1.05


def test_percentile_counts_exact_zeros_at_zero() -> None:
    values = np.concatenate([np.zeros(900), np.full(100, 2.0)])
    assert percentile(seen(values), 50.0) == (0.0, 0.0)
    assert percentile(seen(values), 90.0) == (0.0, 2.0)


def test_percentile_of_everything_is_min_max() -> None:
    values = normal(1000)
    assert percentile(seen(values), 100.0) == min_max(seen(values))


def test_entropy_clips_rare_outliers() -> None:
    values = np.concatenate([normal(), [60.0, -60.0]])
    low, high = entropy(seen(values))
    assert high == -low
    assert 3.0 < high < 15.0


def test_entropy_keeps_what_fills_its_range() -> None:
    low, high = entropy(seen(np.random.default_rng(0).uniform(-2, 2, 200_000)))
    assert low == pytest.approx(-2.0, abs=0.05)
    assert high == pytest.approx(2.0, abs=0.05)


def test_entropy_of_one_side_stays_there() -> None:
    values = np.concatenate([np.maximum(normal(), 0.0), [60.0]])
    low, high = entropy(seen(values))
    assert low == 0.0
    assert 2.5 < high < 20.0
    negative = entropy(seen(-values))
    assert negative == (-high, 0.0)


def test_entropy_does_not_depend_on_exact_zeros() -> None:
    values = np.abs(normal())
    _, high = entropy(seen(values))
    _, with_zeros = entropy(seen(np.concatenate([values, np.zeros(10**6)])))
    assert with_zeros == pytest.approx(high, rel=0.05)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("values", [[0.0], [2.0], [-2.0], [1e-38], [-1.0, 0.0, 1e30]])
def test_odd_tensors_have_a_range(name: str, values: list[float]) -> None:
    estimator = range_estimator(name)
    low, high = estimator.estimate(seen(values, estimator.bins))
    assert np.float32(min(values)) <= low <= high <= np.float32(max(values))


def test_an_unknown_name_lists_the_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"'minmax'.*min_max"):
        range_estimator("minmax")
