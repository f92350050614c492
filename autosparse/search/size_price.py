"""The size limit in a search: bytes have a price.

Source: Everett 1963, Generalized Lagrange Multiplier Method for Solving Problems of Optimum
Allocation of Resources. The least price is taken at which the knapsack's answer keeps the limit;
with it, whatever looks for little error looks for small files as far as it has to. A library of
kernels is paid for once, by whatever needs it first: recipes with and without it are two problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autosparse.levels import Level
from autosparse.search.chain import Chain, Floats, Point, per_level
from autosparse.search.knapsack import chain_front
from autosparse.search.size_limit import SizeLimit
from autosparse.search.space import RecipeSpace
from autosparse.search.strategy import StrategyContext

_COARSE = 1 / 1000
# Prices that are tried: powers of two, half of them below what the largest error is worth.
_PRICES = 24
_TINY = 1e-12
# What may not be had costs so many times the largest error: finite, for it can still be told.
_FORBIDDING = 1e3


def priced(context: StrategyContext, chain: Chain, errors: Floats) -> Floats:
    """Errors with a price on bytes, so that what is cheapest keeps the size limit, too.

    Args:
        context: space, latency bound and size limit.
        chain: latency.
        errors: (layers, levels), infinite where there is no such level.

    Returns:
        (layers, levels); the errors as they are where no limit is in the way.
    """
    limit = context.size_limit
    if limit is None:
        return errors
    problem = _Problem(context, limit, chain, errors)
    free = problem.answer(errors)
    if free is None or free.keeps:
        return errors
    answers = [problem.at_the_least_price(errors)]
    libraries = _libraries(context, limit)
    if libraries.any():
        answers.append(problem.at_the_least_price(errors + problem.forbidding * libraries))
    return min(answers, key=lambda a: (not a.keeps, a.loss if a.keeps else a.size)).table


@dataclass(frozen=True)
class _Answer:
    """The knapsack's answer to a table of costs."""

    table: Floats
    keeps: bool
    """Whether its predicted size is inside the limit."""
    loss: float
    """Its errors, without any price."""
    size: float


@dataclass(frozen=True)
class _Problem:
    """The least error inside a bound of the latency and a limit of the size."""

    context: StrategyContext
    limit: SizeLimit
    chain: Chain
    errors: Floats

    @property
    def forbidding(self) -> float:
        """More than anything is worth."""
        return _FORBIDDING * self.largest_error

    @property
    def largest_error(self) -> float:
        """Of one layer at one level."""
        return float(self.errors[np.isfinite(self.errors)].max(initial=_TINY))

    def answer(self, table: Floats) -> _Answer | None:
        """The least cost inside the bound of the latency; None where nothing is inside."""
        front = chain_front(self.chain, table, _COARSE)
        found = front.best_within(self.context.latency_bound)
        if found is None:
            return None
        numbers = front.numbers(found)
        size = self.limit.predict(self.context.space.recipe(self.chain.point(numbers)).levels)
        loss = float(self.errors[np.arange(len(numbers)), numbers].sum())
        return _Answer(table, size <= self.limit.aim, loss, size)

    def at_the_least_price(self, table: Floats) -> _Answer:
        """The answer at the least price that keeps the limit; at the highest where none does."""
        weights = _bytes(self.context, self.limit)
        unit = self.largest_error / float(weights[np.isfinite(weights)].max(initial=_TINY))
        low, high = 0, _PRICES
        while low < high:
            middle = (low + high) // 2
            found = self.answer(table + unit * 2.0 ** (middle - _PRICES // 2) * weights)
            if found is not None and found.keeps:
                high = middle
            else:
                low = middle + 1
        dearest = table + unit * 2.0 ** (low - _PRICES // 2) * weights
        return self.answer(dearest) or _Answer(dearest, False, np.inf, np.inf)


def smallest_point(space: RecipeSpace, limit: SizeLimit) -> Point:
    """The point with the least predicted size: every layer at its smallest level.

    A library of kernels may weigh more than the levels that need it save: both ways are tried.
    """
    added, libraries = space.totals(limit.added), space.totals(limit.library)
    points: list[Point] = [{}, {}]
    for name, options in space.levels.items():
        order = sorted(range(len(options)), key=lambda index: added[name, options[index]])
        without = [index for index in order if not libraries[name, options[index]]]
        points[0][name], points[1][name] = order[0], (without or order)[0]
    return min(points, key=lambda point: limit.predict(space.recipe(point).levels))


def _bytes(context: StrategyContext, limit: SizeLimit) -> Floats:
    """(layers, levels): bytes beyond each layer's smallest level; infinite where there is none."""
    totals = context.space.totals(limit.added)
    beyond: dict[tuple[str, Level], float] = {}
    for name, options in context.space.levels.items():
        least = min(totals[name, option] for option in options)
        beyond.update(((name, option), totals[name, option] - least) for option in options)
    return per_level(context, beyond)


def _libraries(context: StrategyContext, limit: SizeLimit) -> Floats:
    """(layers, levels): 1 where a level needs a library of kernels, else 0."""
    needed = np.isfinite(per_level(context, context.divergence)) & (
        per_level(context, context.space.totals(limit.library)) > 0
    )
    return needed.astype(np.float64)
