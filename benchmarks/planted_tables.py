"""Planted tables: each holds one thing that the level table alone does not tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autosparse.levels import Level, Precision
from benchmarks.tabulated import Floats, Ints, Tabulated, chain_latencies, every_point

_LAYERS = 8
_OPTIONS = tuple(
    Level.parse(text)
    for text in ("dense:fp32", "dense:int8", "block1x4@0.5:int8", "block1x4@0.75:int8")
)
_SPEEDS = np.array([1.0, 0.5, 0.35, 0.2])
_LOSSES = np.array([0.0, 0.02, 0.2, 1.0])


@dataclass(frozen=True)
class Planted:
    """A table, the budget that makes it hard, and whether a sum of errors is led astray."""

    table: Tabulated
    bound: float
    misleads_sums: bool

    @property
    def best(self) -> float:
        """Divergence of the best recipe inside the budget."""
        return self.table.best_within(self.bound)


def ruinous_pair(seed: int) -> Planted:
    """Two layers that bear compression alone and ruin the model together."""
    rng = np.random.default_rng(seed)
    seconds, errors, points = _ordinary(rng)
    first, second = _harmless(errors, rng, 2)
    both = (points[:, first] > 0) & (points[:, second] > 0)
    divergences = _summed(errors, points) + 5.0 * both
    table = _table(seconds, errors, points, divergences, _no_borders())
    return Planted(table, bound=0.4, misleads_sums=True)


def saved_border(seed: int) -> Planted:
    """Two neighbours whose INT8 pays only together: alone, each costs more at its borders."""
    rng = np.random.default_rng(seed)
    seconds, errors, points = _ordinary(rng)
    first = int(rng.integers(1, _LAYERS - 2))
    # every layer but the pair is sensitive: the way to the budget leads over the hill
    errors *= 20.0
    errors[first : first + 2] /= 400.0
    seconds[first : first + 2] *= 2.0
    borders = _no_borders()
    for border in (first - 1, first + 1):
        borders[border] = 1.3 * _changes_precision()
    table = _table(seconds, errors, points, _summed(errors, points), borders)
    return Planted(table, bound=0.93, misleads_sums=False)


def cliff(seed: int) -> Planted:
    """A layer that bears every level until its input is a little disturbed, and then falls."""
    rng = np.random.default_rng(seed)
    seconds, errors, points = _ordinary(rng)
    layer = int(rng.integers(_LAYERS // 2, _LAYERS))
    errors[layer] *= 0.05
    before = _summed(errors[:layer], points[:, :layer])
    falls = (points[:, layer] >= 2) & (before > 0.15)
    divergences = _summed(errors, points) + 4.0 * falls
    table = _table(seconds, errors, points, divergences, _no_borders())
    return Planted(table, bound=0.4, misleads_sums=True)


def whole_budget(seed: int) -> Planted:
    """Layers of odd sizes: the best recipe fills the budget, and single changes do not reach it."""
    rng = np.random.default_rng(seed)
    seconds, errors, points = _ordinary(rng)
    seconds *= rng.uniform(0.3, 3.0, size=(_LAYERS, 1))
    table = _table(seconds, errors, points, _summed(errors, points) ** 0.5, _no_borders())
    # a hair more than what the best of the recipes around 60 % takes
    near = (table.latencies > 0.57) & (table.latencies <= 0.6)
    best = np.flatnonzero(near)[np.argmin(table.divergences[near])]
    return Planted(table, bound=float(table.latencies[best]) * (1 + 1e-9), misleads_sums=False)


PLANTED: Mapping[str, Callable[[int], Planted]] = {
    "ruinous pair": ruinous_pair,
    "saved border": saved_border,
    "cliff": cliff,
    "whole budget": whole_budget,
}


def _ordinary(rng: np.random.Generator) -> tuple[Floats, Floats, Ints]:
    """Seconds and errors of layers that differ, and all points."""
    seconds = rng.uniform(0.5, 1.5, size=(_LAYERS, 1)) * _SPEEDS
    errors = np.exp(rng.normal(0.0, 1.0, size=(_LAYERS, 1))) * _LOSSES
    errors[:, 1:] *= np.exp(rng.normal(0.0, 0.2, size=(_LAYERS, len(_LOSSES) - 1)))
    return seconds, errors, every_point(_LAYERS, len(_OPTIONS))


def _harmless(errors: Floats, rng: np.random.Generator, count: int) -> list[int]:
    """Layers that are made to lose little alone, so that whoever adds up takes them."""
    chosen = [int(layer) for layer in rng.permutation(len(errors))[:count]]
    errors[chosen] *= 0.02
    return chosen


def _summed(errors: Floats, points: Ints) -> Floats:
    sums: Floats = errors[np.arange(points.shape[1]), points].sum(axis=1)
    return sums


def _no_borders() -> Floats:
    return np.zeros((_LAYERS - 1, len(_OPTIONS), len(_OPTIONS)))


def _changes_precision() -> Floats:
    """(levels, levels): 1 where neighbours differ in their number format."""
    integer = np.array([option.precision is Precision.INT8 for option in _OPTIONS])
    changes: Floats = (integer[:, None] != integer[None, :]).astype(np.float64)
    return changes


def _table(
    seconds: Floats, errors: Floats, points: Ints, divergences: Floats, borders: Floats
) -> Tabulated:
    return Tabulated(
        layers=tuple(f"layer.{index}" for index in range(_LAYERS)),
        options=_OPTIONS,
        seconds=1e-3 * seconds,
        errors=errors,
        weight_errors=np.tile(_LOSSES / 10, (_LAYERS, 1)),
        latencies=chain_latencies(points, seconds, borders),
        divergences=divergences,
    )
