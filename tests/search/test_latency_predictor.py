"""The latency predictor: what it believes of the table, and what measured recipes teach it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from autosparse.levels import BASELINE, Level, Recipe
from autosparse.search.latency_predictor import LatencyPredictor
from autosparse.search.latency_regression import Sample, Spreads, fit

_INT8 = Level.parse("dense:int8+round_to_nearest")
_LAYERS = [f"layer{index}" for index in range(12)]
_SECONDS = 1e-3
_SAYS, _TAKES = 0.04, 0.05
_CROSSING, _ELEMENTS = 0.006, 5000


def _conversions(levels: Mapping[str, Level]) -> dict[str, int]:
    """A conversion wherever neighbours differ."""
    pairs = itertools.pairwise(_LAYERS)
    return {f"{a}>{b}": _ELEMENTS for a, b in pairs if levels[a] != levels[b]}


def _recipe(rng: np.random.Generator) -> Recipe:
    chosen = {name: _INT8 if rng.random() < 0.5 else BASELINE for name in _LAYERS}
    return Recipe(model_sha256="0" * 64, levels=chosen)


def _truth(recipe: Recipe, rng: np.random.Generator, noise: float) -> float:
    """A machine on which int8 layers take longer than the table says, and crossings take time."""
    integer = sum(level == _INT8 for level in recipe.levels.values())
    crossings = len(_conversions(recipe.levels))
    dense = len(_LAYERS) - integer
    return dense / 12 + integer * _TAKES + crossings * _CROSSING + noise * rng.standard_normal()


def _predictor() -> LatencyPredictor:
    shares = {(name, BASELINE): 1 / 12 for name in _LAYERS}
    shares |= {(name, _INT8): _SAYS for name in _LAYERS}
    return LatencyPredictor(shares, dict.fromkeys(_LAYERS, BASELINE), _conversions, _SECONDS)


def _taught(noise: float, count: int = 20, seed: int = 0) -> LatencyPredictor:
    rng = np.random.default_rng(seed)
    predictor = _predictor()
    recipes = [_recipe(rng) for _ in range(count)]
    predictor.learn([(recipe, _truth(recipe, rng, noise)) for recipe in recipes])
    return predictor


def _errors(predictor: LatencyPredictor, count: int = 50) -> tuple[float, float, float]:
    """Median error of prediction and of the table's sum, and how many intervals hold."""
    rng = np.random.default_rng(99)
    recipes = [_recipe(rng) for _ in range(count)]
    truth = np.array([_truth(recipe, rng, 0.0) for recipe in recipes])
    guesses = [predictor.predict(recipe) for recipe in recipes]
    ratios = np.array([guess.ratio for guess in guesses])
    inside = [g.low <= t <= g.high for g, t in zip(guesses, truth, strict=True)]
    sums = np.array([predictor.table_sum(recipe) for recipe in recipes])
    median = np.median(np.abs(np.stack([ratios, sums]) - truth) / truth, axis=1)
    return float(median[0]), float(median[1]), float(np.mean(inside))


def test_with_nothing_measured_it_says_what_the_table_does_and_counts_conversions() -> None:
    levels = dict.fromkeys(_LAYERS, BASELINE) | {_LAYERS[0]: _INT8}
    recipe = Recipe(model_sha256="0" * 64, levels=levels)
    predictor = _predictor()
    one_crossing = _ELEMENTS * Spreads().element_seconds / _SECONDS
    assert predictor.table_sum(recipe) == pytest.approx(1 - 1 / 12 + _SAYS)
    prediction = predictor.predict(recipe)
    assert prediction.ratio == pytest.approx(predictor.table_sum(recipe) + one_crossing)
    assert prediction.low < prediction.ratio < prediction.high
    assert predictor.left_out() == []


def test_a_few_measured_recipes_teach_what_the_table_does_not_know() -> None:
    error, table_error, inside = _errors(_taught(noise=0.003))
    assert error < 0.2 * table_error
    assert inside >= 0.9


def test_a_noisy_machine_is_not_believed_to_the_last_digit() -> None:
    quiet, noisy = _taught(noise=0.001), _taught(noise=0.03)
    recipe = _recipe(np.random.default_rng(5))
    widths = [p.predict(recipe).high - p.predict(recipe).low for p in (quiet, noisy)]
    assert widths[1] > 2 * widths[0]
    assert _errors(noisy)[0] < 0.03  # the noise of one measurement, over a mean ratio under 1


def test_left_out_predictions_do_not_see_their_own_measurement() -> None:
    rng = np.random.default_rng(3)
    measured = [(recipe, _truth(recipe, rng, 0.002)) for recipe in (_recipe(rng) for _ in range(9))]
    samples = [
        Sample({"offset": 1.0, f"layer:{n}": 1.0}, {}, r) for n, (_, r) in enumerate(measured)
    ]
    spreads = Spreads(noise=0.004, layer=0.04)
    whole = fit(samples, _SECONDS, spreads)
    for index, sample in enumerate(samples):
        # the same spreads, without the sample: nothing else may differ
        others = [s for place, s in enumerate(samples) if place != index]
        alone = fit(others, _SECONDS, spreads)
        expected, variance = alone.correction(sample.features, sample.elements)
        assert sample.rest - whole.left_out[index] == pytest.approx(expected, abs=1e-9)
        assert whole.left_out_variance[index] == pytest.approx(variance)


def test_intervals_hold_of_recipes_that_the_fit_has_not_seen() -> None:
    """95 % of them should; an interval that is too wide to say anything would hold all."""
    left_out = _taught(noise=0.01, count=60).left_out()
    assert 0.85 <= np.mean([one.is_inside for one in left_out]) <= 1.0
    widths = [one.prediction.high - one.prediction.low for one in left_out]
    ratios = [one.measured for one in left_out]
    assert 0.02 < np.median(widths) < np.ptp(ratios) / 2
