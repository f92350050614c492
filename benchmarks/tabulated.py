"""A search space whose every answer is known: strategies play it without a model or a clock."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from autosparse.levels import Level
from autosparse.search import RecipeSpace, StrategyContext
from autosparse.search.lamp import lamp_scores_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_NO_MODEL = "0" * 64


@dataclass(frozen=True)
class Tabulated:
    """Latency and divergence of every recipe.

    All arrays of recipes are in the order of `itertools.product` over the layers' levels.
    """

    layers: tuple[str, ...]
    options: tuple[Level, ...]
    """Of every layer, slowest first."""
    seconds: Floats
    """(layers, levels): what the table says of single layers."""
    errors: Floats
    """(layers, levels): divergence with one layer at one level, as the table says."""
    weight_errors: Floats
    """(layers, levels)."""
    latencies: Floats
    """(recipes,) as shares of the baseline's."""
    divergences: Floats
    """(recipes,)."""
    weights: Sequence[npt.NDArray[np.float32]] = ()
    """Of each layer, for scores that look at them; made up where there are none."""

    @cached_property
    def space(self) -> RecipeSpace:
        """All layers with all options."""
        return RecipeSpace(_NO_MODEL, dict.fromkeys(self.layers, self.options))

    @cached_property
    def _strides(self) -> Ints:
        width, count = len(self.options), len(self.layers)
        return np.array([width ** (count - 1 - i) for i in range(count)], dtype=np.int64)

    def number(self, point: Mapping[str, int]) -> int:
        """Where a point's figures are."""
        return int(sum(point[name] * s for name, s in zip(self.layers, self._strides, strict=True)))

    def latency(self, point: Mapping[str, int]) -> float:
        """Of one point, as a share of the baseline's."""
        return float(self.latencies[self.number(point)])

    def divergence(self, point: Mapping[str, int]) -> float:
        """Of one point."""
        return float(self.divergences[self.number(point)])

    def best_within(self, bound: float) -> float:
        """The least divergence of all recipes inside a bound."""
        return float(self.divergences[self.latencies <= bound].min())

    def context(self, bound: float, seed: int) -> StrategyContext:
        """What a strategy is given; its predictor is right."""
        cells = list(itertools.product(range(len(self.layers)), range(len(self.options))))

        def named(table: Floats) -> dict[tuple[str, Level], float]:
            return {(self.layers[i], self.options[j]): float(table[i, j]) for i, j in cells}

        return StrategyContext(
            space=self.space,
            seconds=named(self.seconds),
            divergence=named(self.errors),
            weight_error=named(self.weight_errors),
            lamp=named(self._lamp()),
            latency_bound=bound,
            predicted_ratio=self.latency,
            seed=seed,
        )

    def _lamp(self) -> Floats:
        rng = np.random.default_rng(0)
        weights = self.weights or [
            rng.standard_normal(256 << (index % 3)).astype(np.float32)
            for index in range(len(self.layers))
        ]
        sparsities = [level.sparsity for level in self.options]
        return np.array([lamp_scores_of(weight, sparsities) for weight in weights])


def every_point(layers: int, levels: int) -> Ints:
    """(levels ** layers, layers), in the order of a table."""
    grid = np.indices((levels,) * layers).reshape(layers, -1).T
    return np.ascontiguousarray(grid, dtype=np.int64)


def chain_latencies(points: Ints, seconds: Floats, borders: Floats) -> Floats:
    """Latency of points over the first one's: a sum over layers and over pairs of neighbours.

    Args:
        points: (recipes, layers).
        seconds: (layers, levels).
        borders: (layers - 1, levels, levels), what passing on costs, in seconds.
    """
    layers = np.arange(points.shape[1])
    total = seconds[layers, points].sum(axis=1)
    total += borders[layers[:-1], points[:, :-1], points[:, 1:]].sum(axis=1)
    ratios: Floats = total / total[0]
    return ratios
