"""Which candidate deserves the next measurement: constrained expected improvement.

A candidate just under the budget by prediction is over it half of the time, and every miss costs
a measurement. So what a candidate would gain is weighed with the probability that it meets the
bound: the first measurement banks an answer, the later ones reach for the bound.

Source: constrained Bayesian optimization (Gardner et al. 2014), with the improvement as a share of
the best so far, since only the latency is uncertain here.
"""

from __future__ import annotations

from math import erf, sqrt

from autosparse.search.latency_predictor import Prediction

_STANDARD_ERRORS_IN_95_PERCENT = 2 * 1.959964


def probability_inside(prediction: Prediction, bound: float) -> float:
    """That a recipe meets the bound, for a prediction with normal errors."""
    spread = (prediction.high - prediction.low) / _STANDARD_ERRORS_IN_95_PERCENT
    if spread <= 0.0:
        return float(prediction.ratio <= bound)
    return 0.5 * (1.0 + erf((bound - prediction.ratio) / (spread * sqrt(2.0))))


def expected_improvement(
    prediction: Prediction, divergence: float, bound: float, best: float
) -> float:
    """Expected share by which a candidate brings the divergence under the best one's.

    Args:
        prediction: of the candidate's latency.
        divergence: of the candidate, at least 0.
        bound: largest allowed latency as a share of the baseline's.
        best: least divergence that was measured inside the bound; infinite where nothing was.

    Returns:
        Between 0 and 1; 0 where the candidate is no better.
    """
    if divergence >= best:
        return 0.0
    return probability_inside(prediction, bound) * (1.0 - divergence / best)


def bound_of_turn(number: int, least: float, bound: float) -> float:
    """The latency bound that a trial is chosen for where the whole front is wanted.

    Every other trial is chosen for the contract's bound. Those in between are for bounds below it
    that fill the range evenly however many there are (van der Corput 1935).

    Args:
        number: of the trial, from 0 on.
        least: of the latencies that were measured: no smaller bound can be met.
        bound: the contract's.

    Returns:
        From `least` to `bound`.
    """
    if number % 2 == 0 or least >= bound:
        return bound
    share, digit, rest = 0.0, 0.5, (number + 1) // 2
    while rest:
        share += digit * (rest % 2)
        digit, rest = digit / 2, rest // 2
    return least + share * (bound - least)
