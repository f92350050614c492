"""Bayesian linear regression whose spreads are those that explain the measurements best.

How noisy a machine is, and how far a level table is off, differ by a factor of ten between
machines and models. So neither is assumed: the noise and the spreads of the prior are chosen by
the probability of what was measured (the marginal likelihood; Bishop, Pattern Recognition and
Machine Learning, 3.5), by coordinate ascent over a few steps each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

OFFSET = "offset"
_SWEEPS = 3


@dataclass(frozen=True)
class Spreads:
    """Standard deviations, in shares of the baseline's latency, and the cost of an element."""

    noise: float = 0.01
    """Of one measurement."""
    layer: float = 0.01
    """Of what the table says of one layer at one level."""
    kind: float = 0.2
    """Of what the table says of all layers of one kind of level, as a share of it."""
    conversion: float = 0.002
    """Of what a conversion between layers costs, beside its expected cost."""
    element_seconds: float = 4e-10
    """Expected cost of converting one element."""


_STEPS = {
    "noise": (0.004, 0.007, 0.01, 0.015, 0.02, 0.03),
    "layer": (0.0012, 0.0025, 0.005, 0.01, 0.02),
    "kind": (0.05, 0.1, 0.2, 0.4),
    "conversion": (0.001, 0.002, 0.004, 0.008),
    "element_seconds": (5e-11, 1e-10, 2e-10, 4e-10, 8e-10, 1.6e-9),
}
_OFFSET_SPREAD = 0.02


@dataclass(frozen=True)
class Sample:
    """One measured recipe, as the regression sees it."""

    features: Mapping[str, float]
    """Value of every correction that applies to it."""
    elements: Mapping[str, int]
    """Those of them that are conversions, with how many elements are converted."""
    rest: float
    """What was measured less what the table says, as a share of the baseline's latency."""


class Prior:
    """Expected value and standard deviation of every correction.

    Args:
        spreads: how far the table may be off.
        baseline_seconds: the baseline's latency.
    """

    def __init__(self, spreads: Spreads, baseline_seconds: float) -> None:
        self.spreads = spreads
        self._per_element = spreads.element_seconds / baseline_seconds

    def mean(self, elements: Mapping[str, int]) -> float:
        """Expected cost of conversions, as a share of the baseline's latency."""
        return sum(elements.values()) * self._per_element

    def spread(self, name: str, elements: Mapping[str, int]) -> float:
        """Standard deviation of one correction."""
        if name == OFFSET:
            return _OFFSET_SPREAD
        if name.startswith("layer:"):
            return self.spreads.layer
        if name.startswith("kind:"):
            return self.spreads.kind
        return elements[name] * self._per_element + self.spreads.conversion


@dataclass(frozen=True)
class Fit:
    """Posterior of one regression."""

    prior: Prior
    columns: Mapping[str, int]
    """Correction -> its place in `weights` and `covariance`."""
    weights: Floats
    """Posterior mean of the corrections, beside their prior mean."""
    covariance: Floats
    left_out: Floats
    """Error of every sample's prediction from the others."""

    def correction(
        self, features: Mapping[str, float], elements: Mapping[str, int]
    ) -> tuple[float, float]:
        """Mean and variance of what a recipe takes beyond the table's word, noise included."""
        known = [name for name in features if name in self.columns]
        places = np.array([self.columns[name] for name in known], dtype=np.intp)
        vector = np.array([features[name] for name in known], dtype=np.float64)
        mean = self.prior.mean(elements) + float(vector @ self.weights[places])
        variance = float(vector @ self.covariance[np.ix_(places, places)] @ vector)
        for name, value in features.items():
            if name not in self.columns:
                variance += (value * self.prior.spread(name, elements)) ** 2
        return mean, variance + self.prior.spreads.noise**2


def fit(samples: Sequence[Sample], baseline_seconds: float, start: Spreads) -> Fit:
    """The regression with the most probable spreads near those to start from.

    Args:
        samples: what was measured; with none, the fit is the prior.
        baseline_seconds: the baseline's latency, to turn a cost per element into a share.
        start: the spreads of an earlier fit, or the usual ones.
    """
    problem = Problem(samples, baseline_seconds)
    spreads = _most_probable(problem.evidence, start) if samples else start
    return problem.solved(spreads)


def _most_probable(evidence: Callable[[Spreads], float], start: Spreads) -> Spreads:
    """Coordinate ascent: one spread after the other, until none changes."""
    best, highest = start, evidence(start)
    for _ in range(_SWEEPS):
        before = best
        for field in fields(Spreads):
            for value in _STEPS[field.name]:
                candidate = replace(best, **{field.name: value})
                found = evidence(candidate)
                if found > highest:
                    best, highest = candidate, found
        if best == before:
            break
    return best


class Problem:
    """Samples as matrices; in the space of samples, since corrections are more numerous."""

    def __init__(self, samples: Sequence[Sample], baseline_seconds: float) -> None:
        self._samples = samples
        self._baseline_seconds = baseline_seconds
        self._elements = {n: count for s in samples for n, count in s.elements.items()}
        self._names = sorted({name for sample in samples for name in sample.features})
        columns = {name: place for place, name in enumerate(self._names)}
        self._design = np.zeros((len(samples), len(self._names)))
        for row, sample in enumerate(samples):
            for name, value in sample.features.items():
                self._design[row, columns[name]] = value
        self._columns = columns

    def evidence(self, spreads: Spreads) -> float:
        """Logarithm of the probability of what was measured, but for a constant."""
        _, covariance, rest = self._assumed(spreads)
        factor = np.linalg.cholesky(covariance)
        white = np.linalg.solve(factor, rest)
        return float(-0.5 * (white @ white) - np.log(np.diag(factor)).sum())

    def solved(self, spreads: Spreads) -> Fit:
        """The posterior under given spreads."""
        scaled, covariance, rest = self._assumed(spreads)
        inverse = np.linalg.inv(covariance)
        gain = scaled.T @ inverse
        scales = self._scales(spreads)
        posterior = np.eye(len(self._names)) - gain @ scaled
        return Fit(
            prior=Prior(spreads, self._baseline_seconds),
            columns=self._columns,
            weights=np.asarray(scales * (gain @ rest), dtype=np.float64),
            covariance=np.asarray(posterior * np.outer(scales, scales), dtype=np.float64),
            left_out=np.asarray((inverse @ rest) / np.diag(inverse), dtype=np.float64),
        )

    def _assumed(self, spreads: Spreads) -> tuple[Floats, Floats, Floats]:
        """Scaled corrections, covariance of the measurements, what the prior leaves of them."""
        scaled = self._design * self._scales(spreads)
        covariance = scaled @ scaled.T
        covariance[np.diag_indices_from(covariance)] += spreads.noise**2
        prior = Prior(spreads, self._baseline_seconds)
        rest = np.array([s.rest - prior.mean(s.elements) for s in self._samples])
        return scaled, covariance, rest

    def _scales(self, spreads: Spreads) -> Floats:
        prior = Prior(spreads, self._baseline_seconds)
        return np.array([prior.spread(name, self._elements) for name in self._names])
