"""Predict a recipe's latency from the level table and a few measured recipes. Screening only.

The prediction is a chain sum: every layer's attributed share at its level, plus what the recipe
makes the runtime do between layers. The shares and a guess for the conversions are the prior of a
Bayesian linear regression; measured recipes correct both, and give every prediction an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosparse.levels import Level, Recipe

Conversions = Callable[[Mapping[str, Level]], Mapping[str, int]]
Floats = npt.NDArray[np.float64]

# Standard deviations of the prior, in shares of the baseline's latency.
_OFFSET_SPREAD = 0.02
_LAYER_SPREAD = 0.02
# All layers of one kind of level may be off together: a share of what the table says of them.
_KIND_SPREAD = 0.2
_CONVERSION_SPREAD = 0.002
# Seconds that converting one element may cost; the one that explains the evidence is taken.
_ELEMENT_SECONDS = (1e-10, 2e-10, 4e-10, 8e-10, 1.6e-9)
_SMALLEST_NOISE = 0.004
_INTERVAL_WIDTH = 1.96


@dataclass(frozen=True)
class Prediction:
    """Latency as a share of the baseline's, with its 95 % interval."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class _Fit:
    """Posterior of one regression."""

    weights: Floats
    covariance: Floats
    left_out: Floats
    """Prediction of every measured recipe from the others."""
    noise: float


class LatencyPredictor:
    """A linear model over layers' levels and conversions, with a prior from the level table.

    Args:
        shares: attributed latency of each layer at each level, as a share of the baseline's.
        baseline: each layer's level in the baseline.
        conversions: what a recipe makes the runtime do between layers, by name and elements.
        baseline_seconds: the baseline's latency, to turn a cost per element into a share.
    """

    def __init__(
        self,
        shares: Mapping[tuple[str, Level], float],
        baseline: Mapping[str, Level],
        conversions: Conversions,
        baseline_seconds: float,
    ) -> None:
        self._shares = dict(shares)
        self._baseline = dict(baseline)
        self._conversions = conversions
        self._baseline_seconds = baseline_seconds
        self._samples: list[tuple[Recipe, float]] = []
        self._columns: dict[str, int] = {}
        self._elements: dict[str, int] = {}
        self._element_seconds = _ELEMENT_SECONDS[2]
        self._fit: _Fit | None = None

    def table_sum(self, recipe: Recipe) -> float:
        """The plain sum of the table, which knows nothing of what happens between layers."""
        saved = sum(
            self._shares[(name, level)] - self._shares[(name, self._baseline[name])]
            for name, level in recipe.levels.items()
        )
        return 1.0 + saved

    def learn(self, measured: Sequence[tuple[Recipe, float]]) -> None:
        """Fit to recipes and their measured ratios, all that are known."""
        self._samples = list(measured)
        names = {n for recipe, _ in self._samples for n in self._features(recipe)}
        self._columns = {name: index for index, name in enumerate(sorted(names))}
        if not self._samples:
            self._fit = None
            return
        fits = {seconds: self._regress(seconds) for seconds in _ELEMENT_SECONDS}
        self._element_seconds = min(fits, key=lambda seconds: fits[seconds].noise)
        self._fit = fits[self._element_seconds]

    def predict(self, recipe: Recipe) -> Prediction:
        """Latency of a recipe over the baseline's."""
        features = self._features(recipe)
        prior = self._prior_mean(features, self._element_seconds)
        ratio = self.table_sum(recipe) + sum(prior.values())
        variance = _SMALLEST_NOISE**2
        vector = np.zeros(len(self._columns))
        for name, value in features.items():
            if name in self._columns:
                vector[self._columns[name]] = value
            else:
                variance += (value * self._spread(name, prior[name])) ** 2
        if self._fit is not None:
            ratio += float(vector @ self._fit.weights)
            variance += self._fit.noise**2 + float(vector @ self._fit.covariance @ vector)
        half = _INTERVAL_WIDTH * variance**0.5
        return Prediction(ratio, ratio - half, ratio + half)

    def left_out(self) -> list[tuple[Recipe, float, float]]:
        """(recipe, measured, predicted by a fit without it) for every measured recipe."""
        if self._fit is None:
            return []
        pairs = zip(self._samples, self._fit.left_out, strict=True)
        return [(recipe, measured, float(guess)) for (recipe, measured), guess in pairs]

    def _features(self, recipe: Recipe) -> dict[str, float]:
        """What the regression may correct.

        1 for whatever the recipe contains; for each kind of level, the share of the baseline's
        latency that its layers have by the table.
        """
        features = {"offset": 1.0}
        for name, level in recipe.levels.items():
            if level != self._baseline[name]:
                kind = level.without_method()
                features[f"layer:{name}:{kind}"] = 1.0
                total = features.get(f"kind:{kind}", 0.0)
                features[f"kind:{kind}"] = total + self._shares[(name, level)]
        for name, elements in self._conversions(recipe.levels).items():
            self._elements[name] = elements
            features[name] = 1.0
        return features

    def _prior_mean(self, features: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Expected cost of each feature beyond the table's sum."""
        return {
            name: self._elements.get(name, 0) * seconds / self._baseline_seconds
            for name in features
        }

    @staticmethod
    def _spread(name: str, mean: float) -> float:
        if name == "offset":
            return _OFFSET_SPREAD
        if name.startswith("layer:"):
            return _LAYER_SPREAD
        if name.startswith("kind:"):
            return _KIND_SPREAD
        return mean + _CONVERSION_SPREAD

    def _regress(self, seconds: float) -> _Fit:
        """Closed-form posterior of the corrections, and what it predicts of left-out recipes."""
        count = len(self._columns)
        design = np.zeros((len(self._samples), count))
        rest = np.zeros(len(self._samples))
        precision = np.zeros(count)
        for row, (recipe, measured) in enumerate(self._samples):
            features = self._features(recipe)
            prior = self._prior_mean(features, seconds)
            rest[row] = measured - self.table_sum(recipe) - sum(prior.values())
            for name, value in features.items():
                column = self._columns[name]
                design[row, column] = value
                precision[column] = self._spread(name, prior[name]) ** -2
        scaled = design / _SMALLEST_NOISE
        covariance: Floats = np.asarray(
            np.linalg.inv(np.diag(precision) + scaled.T @ scaled), dtype=np.float64
        )
        weights = covariance @ (scaled.T @ rest) / _SMALLEST_NOISE
        leverage = np.einsum("ij,jk,ik->i", scaled, covariance, scaled)
        residual = (rest - design @ weights) / np.maximum(1.0 - leverage, 1e-6)
        measured_ratios = np.array([measured for _, measured in self._samples])
        return _Fit(
            weights=weights,
            covariance=covariance,
            left_out=measured_ratios - residual,
            noise=float(np.median(np.abs(residual)) * 1.4826),
        )
