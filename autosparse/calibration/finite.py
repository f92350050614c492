"""The check every observer makes before it believes an activation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autosparse.errors import DataError


def finite_extremes(name: str, values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Smallest and largest of the values, which are at least one.

    Raises:
        DataError: the model computes NaN or infinity on the calibration data.
    """
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(
            f"on the calibration data, the model's tensor {name!r} is not finite",
            hint="check the preprocessing of the calibration file",
        )
    return low, high
