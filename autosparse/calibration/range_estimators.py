"""How wide a grid for activations should be: all that was seen, or less, to resolve the rest.

A value outside the range is clipped. To add an estimator: a function on a histogram, and one
line in `ESTIMATORS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosparse.calibration.streaming_histogram import StreamingHistogram
from autosparse.errors import ConfigError

COVERED_PERCENT = 99.99
_BINS = 2048
_ONE_SIDED_STEPS = 256
_TWO_SIDED_STEPS = 128
# Thresholds tried lie this many bins apart: 0.4 % of the range, finer than any effect.
_BINS_BETWEEN_THRESHOLDS = 8
# What an empty step counts, as customary: so little that a few clipped outliers cost little.
_EMPTY = 1e-4


@dataclass(frozen=True)
class RangeEstimator:
    """One way to choose a range."""

    summary: str
    """One line for people."""
    estimate: Callable[[StreamingHistogram], tuple[float, float]]
    """From what was seen to (low, high)."""
    bins: int
    """Bins it needs on each side of zero; 0 where it reads the extremes only."""


def min_max(seen: StreamingHistogram) -> tuple[float, float]:
    """Everything that was seen: nothing is clipped, one outlier costs all others resolution."""
    return seen.low, seen.high


def percentile(seen: StreamingHistogram, percent: float = COVERED_PERCENT) -> tuple[float, float]:
    """Cut what lies outside the given percentage, half of it at either end.

    The range ends at a bin's far edge, so it covers at least what is asked for.
    """
    if seen.reach == 0.0:
        return min_max(seen)
    # exact zeros lie on the border between the two middle bins: a point of their own there
    below = np.cumsum(np.insert(seen.counts, seen.bins, seen.zeros))
    lower = np.insert(seen.edges[:-1], seen.bins, 0.0)
    upper = np.insert(seen.edges[1:], seen.bins, 0.0)
    cut = (100.0 - percent) / 200.0 * below[-1]
    first = int(np.searchsorted(below, cut, side="right"))
    last = int(np.searchsorted(below, below[-1] - cut, side="left"))
    return max(seen.low, float(lower[first])), min(seen.high, float(upper[last]))


def entropy(seen: StreamingHistogram) -> tuple[float, float]:
    """Clip where the distribution of |x| loses the least information on the integer grid.

    Migacz 2017, "8-bit Inference with TensorRT": of all thresholds, the one with the smallest
    Kullback-Leibler divergence between the clipped distribution and its quantized form. Exact
    zeros are left out: they are represented exactly by any of the grids.
    """
    if seen.reach == 0.0:
        return min_max(seen)
    magnitudes = seen.counts[seen.bins :] + seen.counts[: seen.bins][::-1]
    two_sided = seen.low < 0.0 < seen.high
    steps = _TWO_SIDED_STEPS if two_sided else _ONE_SIDED_STEPS
    used = int(np.flatnonzero(magnitudes)[-1]) + 1
    kept = range(used, min(steps, used) - 1, -_BINS_BETWEEN_THRESHOLDS)
    best = min(kept, key=lambda bins: _divergence(magnitudes[:used], bins, steps))
    threshold = best * seen.reach / seen.bins
    return max(seen.low, -threshold), min(seen.high, threshold)


def _divergence(counts: npt.NDArray[np.int64], kept: int, steps: int) -> float:
    """KL divergence of the counts clipped to `kept` bins from the same put on `steps` steps."""
    reference = counts[:kept].astype(np.float64)
    step = np.arange(kept) * steps // kept
    mass = np.bincount(step, weights=reference)
    reference[-1] += counts[kept:].sum()
    occupied = reference > 0
    quantized = (mass / np.maximum(np.bincount(step, weights=occupied), 1))[step]
    # clipped mass may fall into a step that was empty: the divergence must stay finite
    p, q = reference[occupied], np.maximum(quantized[occupied], _EMPTY)
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


ESTIMATORS: Mapping[str, RangeEstimator] = {
    "min_max": RangeEstimator("all that was seen", min_max, bins=0),
    "percentile": RangeEstimator(f"{COVERED_PERCENT} % of what was seen", percentile, bins=_BINS),
    "entropy": RangeEstimator("least information lost, as TensorRT does", entropy, bins=_BINS),
}


def range_estimator(name: str) -> RangeEstimator:
    """Return the estimator called `name`.

    Raises:
        ConfigError: no such name; the message lists the near ones.
    """
    if name not in ESTIMATORS:
        near = difflib.get_close_matches(name, ESTIMATORS, n=3, cutoff=0.4)
        raise ConfigError(
            f"no range estimator is called {name!r}",
            hint=f"known: {', '.join(near or ESTIMATORS)}",
        )
    return ESTIMATORS[name]
