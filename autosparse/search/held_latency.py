"""Latency as the gate holds it: an estimate, or with `--strict` the upper end of its interval.

A recipe that was never timed has no interval. But how far the ends lie over the estimates, in
shares of them, differs little between files that are timed alike on one machine. So the median of
what was seen is what the next measurement is expected to add.
"""

from __future__ import annotations

from statistics import median

from autosparse.search.latency_predictor import Prediction


class HeldLatency:
    """What is held against the bound, of recipes that were timed and of those that were not.

    Args:
        bound: largest latency that may be delivered, as a share of the baseline's.
        strict: whether the upper end of the interval has to keep it.
    """

    def __init__(self, bound: float, *, strict: bool = False) -> None:
        self.bound = bound
        self._strict = strict
        self._held: dict[str, float] = {}
        self._over: list[float] = []
        self._factor = 1.0

    def measured(self, recipe_id: str, ratio: float, high: float) -> None:
        """Take in a recipe that was timed.

        Args:
            recipe_id: which.
            ratio: its latency as a share of the baseline's.
            high: the upper end of its interval.
        """
        self._held[recipe_id] = high if self._strict else ratio
        if self._strict:
            self._over.append(high / ratio)
            self._factor = median(self._over)

    def known(self, recipe_id: str) -> float | None:
        """What was measured of a recipe and is held against the bound; None where nothing was."""
        return self._held.get(recipe_id)

    @property
    def least(self) -> float | None:
        """The least that was measured and is held against the bound; None where nothing was."""
        return min(self._held.values(), default=None)

    def of(self, predicted: Prediction) -> Prediction:
        """What is expected to be held against the bound, where a prediction is all there is."""
        factor = self._factor
        return Prediction(predicted.ratio * factor, predicted.low * factor, predicted.high * factor)

    @property
    def largest_estimate(self) -> float:
        """The bound on estimates, which leaves room for what a measurement adds to them."""
        return self.bound / self._factor
