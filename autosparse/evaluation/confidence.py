"""Whether a model is as sure as it is right.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599); that
compression changes it while accuracy stays: seed AN12, "Reprogramming lottery tickets".
"""

from __future__ import annotations

import numpy as np

from autosparse.evaluation.scores import Array, Floats

_BINS = 15
# What logits are divided by: from a quarter to four times, in steps of 2 %.
_TEMPERATURES = np.exp(np.linspace(-np.log(4.0), np.log(4.0), 139))
_SMALLEST = 1e-12


def are_probabilities(outputs: Floats) -> bool:
    """Whether outputs are probabilities of classes: none is negative, and each row sums to 1.

    Args:
        outputs: (rows, classes).
    """
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-3))


def log_probabilities(outputs: Floats) -> Floats:
    """Logarithms of class probabilities.

    Args:
        outputs: (rows, classes): probabilities, recognized by their sums, or logits.
    """
    if are_probabilities(outputs):
        return np.asarray(np.log(np.maximum(outputs, _SMALLEST)))
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def calibration_error(logarithms: Floats, labels: Array) -> float:
    """Expected calibration error: |how sure - how often right|, over bins of sureness.

    Args:
        logarithms: (rows, classes), of probabilities.
        labels: (rows,) class indices.
    """
    sure = np.exp(logarithms.max(axis=1))
    right = logarithms.argmax(axis=1) == labels
    places = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    gaps = np.bincount(places, weights=sure - right, minlength=_BINS)
    return float(np.abs(gaps).sum() / max(counts.sum(), 1))


def best_temperature(logarithms: Floats, labels: Array) -> float:
    """What logits are best divided by, so that the labels are likeliest.

    Args:
        logarithms: (rows, classes), of probabilities.
        labels: (rows,) class indices.
    """
    rows = np.arange(len(labels))
    losses = [-log_probabilities(logarithms / t)[rows, labels].mean() for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])
