"""What one pass over the calibration data tells about every activation tensor."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from autosparse.errors import DataError


class Range(BaseModel):
    """Smallest and largest value that a tensor took."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float

    def unsigned_grid(self) -> tuple[np.float32, np.uint8]:
        """Scale and zero point of the uint8 grid that covers the range and holds zero exactly."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = np.float32((high - low) / 255)
        # a range too small for a normal float32 step cannot be told from all zeros
        if not np.isfinite(scale) or scale < np.finfo(np.float32).tiny:
            scale = np.float32(1.0)
        return scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, 255))


class ActivationRanges(BaseModel):
    """Ranges of activation tensors, by tensor name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensors: dict[str, Range]


@dataclass
class RangeObserver:
    """Min-max over batches, in constant memory."""

    _low: dict[str, float] = field(default_factory=dict)
    _high: dict[str, float] = field(default_factory=dict)

    def observe(self, name: str, values: npt.NDArray[np.float32]) -> None:
        """Take in one batch of one tensor.

        Raises:
            DataError: the model computes NaN or infinity on the calibration data.
        """
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(
                f"on the calibration data, the model's tensor {name!r} is not finite",
                hint="check the preprocessing of the calibration file",
            )
        self._low[name] = min(low, self._low.get(name, low))
        self._high[name] = max(high, self._high.get(name, high))

    def ranges(self) -> ActivationRanges:
        """Everything seen so far."""
        return ActivationRanges(
            tensors={n: Range(low=low, high=self._high[n]) for n, low in self._low.items()}
        )
