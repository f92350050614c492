"""A histogram of one tensor over many batches: bounded memory, one pass, a range that grows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autosparse.calibration.finite import finite_extremes

Counts = npt.NDArray[np.int64]


class StreamingHistogram:
    """Equal bins on both sides of zero, up to a reach that doubles when a value lies beyond it.

    The bins meet at zero, so doubling the reach merges them in pairs, exactly: no value is ever
    split between bins and no second pass is needed. Exact zeros are counted apart, because an
    activation after a ReLU is mostly zeros and every integer grid holds zero exactly.

    Args:
        bins: bins on each side of zero; 0 keeps the extremes only.
    """

    def __init__(self, bins: int) -> None:
        self.bins = bins
        self.low = np.inf
        self.high = -np.inf
        self.zeros = 0
        self.reach = 0.0
        """Distance from zero to the last bin's far edge; 0 until a value other than zero came."""
        self.counts: Counts = np.zeros(2 * bins, dtype=np.int64)
        """From the most negative bin to the most positive; exact zeros left out."""

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Borders of the bins, one more than there are bins."""
        return np.linspace(-self.reach, self.reach, 2 * self.bins + 1)

    def add(self, name: str, values: npt.NDArray[np.float32]) -> None:
        """Take in one batch of the tensor `name`.

        Raises:
            DataError: the model computes NaN or infinity on the calibration data.
        """
        if values.size == 0:
            return
        low, high = finite_extremes(name, values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.bins:
            self._count(values.reshape(-1), max(-low, high))

    def _count(self, values: npt.NDArray[np.float32], largest: float) -> None:
        nonzero = values[values != 0]
        self.zeros += values.size - nonzero.size
        if nonzero.size == 0:
            return
        self._grow_to(largest)
        # float64: a float32 quotient could put a value near an edge into the wrong bin
        position = nonzero.astype(np.float64) * (self.bins / self.reach) + self.bins
        index = np.minimum(position.astype(np.int64), 2 * self.bins - 1)
        self.counts += np.bincount(index, minlength=2 * self.bins)

    def _grow_to(self, largest: float) -> None:
        if self.reach == 0.0:
            self.reach = largest
        while self.reach < largest:
            self.reach *= 2
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros_like(self.counts)
            self.counts[self.bins // 2 : self.bins // 2 + self.bins] = merged
