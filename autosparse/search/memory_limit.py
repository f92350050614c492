"""Peak memory of files, guessed from their size: which candidate to measure next, nothing else.

What a file takes at its peak is nearly a line over its size: its activations, which every recipe
has, and some copies of its weights. The line is fitted to the trials.
"""

from __future__ import annotations

import math

import numpy as np

# A line through fewer trials says nothing; one is never believed to be closer than this share.
_FEWEST = 3
_LEAST_SPREAD = 0.02


class MemoryLimit:
    """What files may take at their peak, and what they are thought to.

    Args:
        bound: in bytes.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self._measured: dict[str, tuple[float, float]] = {}
        self._intercept = self._slope = 0.0
        self._spread = _LEAST_SPREAD * bound

    def learn(self, recipe_id: str, size: int, peak: int) -> None:
        """Take in a trial: the size of its files and its peak memory, in bytes."""
        self._measured[recipe_id] = (size, peak)
        sizes, peaks = np.array(list(self._measured.values()), dtype=np.float64).T
        apart = sizes - sizes.mean()
        moved = float(apart @ apart)
        # more weights never take less memory: a falling line is noise
        self._slope = max(float(apart @ (peaks - peaks.mean())) / moved, 0.0) if moved else 0.0
        self._intercept = float(peaks.mean() - self._slope * sizes.mean())
        errors = peaks - self._intercept - self._slope * sizes
        self._spread = max(float(errors.std()), _LEAST_SPREAD * self.bound)

    def probability_inside(self, size: int | None) -> float:
        """That a file of this size keeps the limit; 1 where nothing speaks against it."""
        if size is None or len(self._measured) < _FEWEST:
            return 1.0
        left = self.bound - self._intercept - self._slope * size
        return 0.5 * (1.0 + math.erf(left / (self._spread * math.sqrt(2.0))))

    @property
    def largest_size(self) -> float:
        """Size at which files are thought to reach the limit; infinite where that is not known."""
        if self._slope <= 0.0 or len(self._measured) < _FEWEST:
            return math.inf
        return max((self.bound - self._intercept) / self._slope, 0.0)
