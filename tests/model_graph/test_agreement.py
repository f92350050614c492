from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from autosparse.model_graph.agreement import relative_error

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.5], [3.0, 4.0], 0.1),  # 0.5 against a norm of 5
        ([0.5, 0.0], [0.0, 0.0], 0.5),  # nothing to be relative to
        ([INF, 3.0, NAN], [INF, 3.0, NAN], 0.0),
        ([-INF, 3.0], [-INF, 3.3], 0.3 / 3.3),
        ([-INF, 3.0], [INF, 3.0], INF),
        ([NAN, 3.0], [1.0, 3.0], INF),
        ([1.0, 3.0], [NAN, 3.0], INF),
        ([[3.0, 4.0]], [3.0, 4.0], INF),  # another shape
        ([1, 2], [1, 2], 0.0),
    ],
)
def test_error_relative_to_the_norm(
    found: npt.ArrayLike, expected: npt.ArrayLike, error: float
) -> None:
    value = relative_error({"y": np.asarray(found)}, {"y": np.asarray(expected)})
    assert value == pytest.approx(error)


def test_the_worst_output_counts() -> None:
    ones = np.ones(4)
    expected = {"a": ones, "b": ones}
    assert relative_error({"a": ones, "b": ones * 1.5}, expected) == pytest.approx(0.5)
    assert relative_error({"a": ones}, expected) == np.inf
