"""Latency as the gate holds it: an estimate, or with `--strict` the upper end of its interval.

A recipe that was never timed has no interval. But how far the ends lie over the estimates, in
shares of them, differs little between files that are timed alike on one machine. So the median of
what was seen is what the next measurement is expected to add.

The best of many trials is also the one that chance favoured most, and what a machine was like while
it was timed is part of that. Where a verification refutes it, others that look as fast are held to
the same shift, as far as they were timed in the same state of the machine's vector units, and as
far as it is no accident of the one trial: the wider its interval was, the less the shift is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from autosparse.search.latency_predictor import Prediction

# Standard deviation of what a machine's state may do to all files alike, as a share.
_OF_STATES = 0.03
_STANDARD_ERRORS = 1.959964

SameState = Callable[[float | None, float | None], bool]
"""Whether a machine was in the same state, from two of its vector units' paces."""


class HeldLatency:
    """What is held against the bound, of recipes that were timed and of those that were not.

    Args:
        bound: largest latency that may be delivered, as a share of the baseline's.
        strict: whether the upper end of the interval has to keep it.
        same_state: tells states of the machine apart; None where they make no difference.
    """

    def __init__(
        self, bound: float, *, strict: bool = False, same_state: SameState | None = None
    ) -> None:
        self.bound = bound
        self._strict = strict
        self._same_state = same_state or (lambda one, other: True)
        self._held: dict[str, float] = {}
        self._paces: dict[str, float | None] = {}
        self._errors: dict[str, float] = {}
        self._over: list[float] = []
        self._factor = 1.0
        self._refuted: dict[str, float] = {}
        self._shifts: list[tuple[float, float | None]] = []

    def measured(
        self, recipe_id: str, ratio: float, high: float, vector_pace: float | None = None
    ) -> None:
        """Take in a recipe that was timed.

        Args:
            recipe_id: which.
            ratio: its latency as a share of the baseline's.
            high: the upper end of its interval.
            vector_pace: of the machine meanwhile.
        """
        self._paces[recipe_id] = vector_pace
        self._errors[recipe_id] = (high / ratio - 1.0) / _STANDARD_ERRORS
        self._held[recipe_id] = high if self._strict else ratio
        if self._strict:
            self._over.append(high / ratio)
            self._factor = median(self._over)

    def refuted(self, recipe_id: str, ratio: float, verified: float) -> None:
        """Take in a file that took longer when it was verified.

        Args:
            recipe_id: which.
            ratio: its latency as a share of the baseline's, when it was a trial.
            verified: the same, when it was verified.
        """
        self._refuted[recipe_id] = verified
        error = self._errors.get(recipe_id, 0.0)
        of_state = _OF_STATES**2 / (_OF_STATES**2 + error**2)
        self._shifts.append(((verified / ratio) ** of_state, self._paces.get(recipe_id)))

    def shift(self, recipe_id: str | None = None) -> float:
        """By what a verification is expected to multiply the latency of a trial.

        Args:
            recipe_id: of the trial; None for the next one.
        """
        pace = None if recipe_id is None else self._paces.get(recipe_id)
        alike = [shift for shift, other in self._shifts if self._same_state(other, pace)]
        return median(alike) if alike else 1.0

    def known(self, recipe_id: str) -> float | None:
        """What was measured of a recipe and is held against the bound; None where nothing was."""
        if recipe_id in self._refuted:
            return self._refuted[recipe_id]
        held = self._held.get(recipe_id)
        return None if held is None else held * self.shift(recipe_id)

    @property
    def least(self) -> float | None:
        """The least that was measured and is held against the bound; None where nothing was."""
        known = (self.known(recipe_id) for recipe_id in self._held)
        return min((ratio for ratio in known if ratio is not None), default=None)

    def of(self, predicted: Prediction) -> Prediction:
        """What is expected to be held against the bound, where a prediction is all there is."""
        factor = self._factor * self.shift()
        return Prediction(predicted.ratio * factor, predicted.low * factor, predicted.high * factor)

    @property
    def largest_estimate(self) -> float:
        """The bound on estimates, which leaves room for what a measurement adds to them."""
        return self.bound / (self._factor * self.shift())
