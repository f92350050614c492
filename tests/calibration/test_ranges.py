from __future__ import annotations

import numpy as np
import pytest

from autosparse.calibration import ESTIMATORS, Range, RangeObserver
from autosparse.errors import ConfigError, DataError


def batches() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    draw = np.random.default_rng(0)
    return [scale * draw.standard_normal((50, 40)).astype(np.float32) for scale in (1.0, 0.1, 2.0)]


def test_min_max_is_the_default() -> None:
    observer = RangeObserver()
    for batch in batches():
        observer.observe("x", batch)
    observer.observe("y", np.array([3.0], dtype=np.float32))
    values = np.concatenate(batches())
    found = observer.ranges().tensors
    assert found["x"] == Range(low=float(values.min()), high=float(values.max()))
    assert found["y"] == Range(low=3.0, high=3.0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_range_lies_within_what_was_seen(estimator: str) -> None:
    observer = RangeObserver(estimator)
    for batch in batches():
        observer.observe("x", batch)
    values = np.concatenate(batches())
    found = observer.ranges().tensors["x"]
    assert values.min() <= found.low < 0 < found.high <= values.max()


def test_an_empty_batch_says_nothing() -> None:
    observer = RangeObserver()
    observer.observe("x", np.zeros((0, 4), dtype=np.float32))
    assert observer.ranges().tensors == {}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_values_that_are_not_finite_are_refused(estimator: str) -> None:
    with pytest.raises(DataError, match="tensor 'x' is not finite"):
        RangeObserver(estimator).observe("x", np.array([1.0, np.nan], dtype=np.float32))


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(ConfigError, match="no range estimator is called 'average'"):
        RangeObserver("average")


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [(-1.0, 1.55, 0.01, 100), (1.0, 2.55, 0.01, 0), (-2.55, -1.0, 0.01, 255), (0.0, 0.0, 1.0, 0)],
)
def test_the_grid_holds_zero_and_the_range(
    low: float, high: float, scale: float, zero: int
) -> None:
    found_scale, found_zero = Range(low=low, high=high).unsigned_grid()
    assert float(found_scale) == pytest.approx(scale)
    assert int(found_zero) == zero
