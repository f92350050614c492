"""Latency as a chain: a share for each layer and one for each pair of neighbours, as numbers.

The predictor answers for one whole recipe at a time, which is too slow for thousands of them. It
is asked about single layers and neighbouring pairs only, and its answers are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosparse.levels import Dense, Level
from autosparse.search.space import RecipeSpace
from autosparse.search.strategy import StrategyContext

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Point = dict[str, int]


@dataclass(frozen=True)
class Chain:
    """Latency of points of a space, in shares of the baseline's.

    Exact where the predictor is a sum over layers and neighbouring pairs of kinds of level; an
    approximation elsewhere, so what it proposes is asked of the predictor again.
    """

    names: tuple[str, ...]
    """Layers that have a choice, in the model's order."""
    base: float
    """Latency with every layer at its slowest level."""
    alone: Floats
    """(layers, levels): what one layer at a level adds; infinite where there is no such level."""
    joint: Floats
    """(layers - 1, levels, levels): what a pair of neighbours adds beyond both."""

    def of(self, points: Ints) -> Floats:
        """Latency of (n, layers) points: (n,)."""
        layers = np.arange(len(self.names))
        sums: Floats = self.base + self.alone[layers, points].sum(axis=1)
        if len(self.names) > 1:
            sums += self.joint[layers[:-1], points[:, :-1], points[:, 1:]].sum(axis=1)
        return sums

    def changes(self, points: Ints) -> Floats:
        """What every single change of (n, layers) points adds: (n, layers, levels)."""
        layers = np.arange(points.shape[1])
        added = self.alone - self.alone[layers, points][:, :, None]
        if len(layers) > 1:
            pairs, first, second = layers[:-1], points[:, :-1], points[:, 1:]
            now = self.joint[pairs, first, second][:, :, None]
            added[:, :-1] += self.joint[pairs, :, second] - now
            added[:, 1:] += self.joint[pairs, first] - now
        return added

    def array(self, point: Mapping[str, int]) -> Ints:
        """A point as numbers, in the order of the layers."""
        return np.array([point[name] for name in self.names], dtype=np.int64)

    def point(self, numbers: Ints) -> Point:
        """Numbers as a point."""
        return {name: int(number) for name, number in zip(self.names, numbers, strict=True)}


def chain_of(context: StrategyContext) -> Chain:
    """The latency as a context's predictor sees it."""
    return chain_over(context.space, context.predicted_ratio)


def chain_over(space: RecipeSpace, predicted_ratio: Callable[[Point], float]) -> Chain:
    """Ask a predictor about every level alone, and about pairs of kinds of neighbours.

    Args:
        space: what may be chosen.
        predicted_ratio: latency of a point, as a share of the baseline's.
    """
    names = tuple(space.distributions())
    options = [space.levels[name] for name in names]
    slowest = dict.fromkeys(names, 0)
    base = predicted_ratio(slowest)
    alone = np.full((len(names), max(map(len, options), default=1)), np.inf)
    for row, name in enumerate(names):
        for level in range(len(options[row])):
            changed = {**slowest, name: level}
            alone[row, level] = predicted_ratio(changed) - base if level else 0.0
    width = alone.shape[1]
    joint = np.zeros((max(len(names) - 1, 0), width, width))
    for row in range(len(names) - 1):
        pair = names[row], names[row + 1]
        kinds = _kinds(options[row]), _kinds(options[row + 1])
        for first in _others(kinds[0]):
            for second in _others(kinds[1]):
                a, b = kinds[0].index(first), kinds[1].index(second)
                both = predicted_ratio({**slowest, pair[0]: a, pair[1]: b})
                extra = both - base - alone[row, a] - alone[row + 1, b]
                joint[row][np.ix_(_where(kinds[0], first), _where(kinds[1], second))] = extra
    return Chain(names, base, alone, joint)


def errors_of(context: StrategyContext) -> Floats:
    """(layers, levels): error of the outputs with one layer at one level; infinite beyond."""
    return per_level(context, context.divergence)


def per_level(context: StrategyContext, scores: Mapping[tuple[str, Level], float]) -> Floats:
    """Scores of layers that have a choice as (layers, levels); infinite where there is no level."""
    names = list(context.space.distributions())
    width = max((len(context.space.levels[name]) for name in names), default=1)
    table = np.full((len(names), width), np.inf)
    for row, name in enumerate(names):
        for column, level in enumerate(context.space.levels[name]):
            table[row, column] = max(scores[name, level], 0.0)
    return table


def kind_of(level: Level) -> str:
    """What decides how a runtime passes from one layer to the next: number format and kernel."""
    return f"{level.precision}:{isinstance(level.pattern, Dense)}"


def _kinds(options: tuple[Level, ...]) -> list[str]:
    return [kind_of(option) for option in options]


def _others(kinds: list[str]) -> list[str]:
    """Kinds that differ from the slowest level's, which adds nothing to a pair."""
    return [kind for kind in dict.fromkeys(kinds) if kind != kinds[0]]


def _where(kinds: list[str], kind: str) -> list[int]:
    return [index for index, other in enumerate(kinds) if other == kind]
