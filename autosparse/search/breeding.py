"""Offspring inside a latency bound: switch levels, come down to the bound, spend what is left.

Source: the level-switch mutation of EvoPress (seed EvoPress), at a latency instead of a sparsity:
what one layer gives up, others may use. A whole brood is made at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosparse.search.chain import Chain, Floats, Ints

Mask = npt.NDArray[np.bool_]

_MOST_SWITCHES = 4
_TO_A_NEIGHBOUR = 0.7
# Offspring that keep what a switch left over: more compression is not always more error.
_THRIFTY = 0.15
# Offspring see the levels' errors disturbed by this factor's logarithm, so that they differ.
_DISTURBANCE = 0.5
_TINY = 1e-9


@dataclass(frozen=True)
class Breeder:
    """Makes points from points.

    Args:
        chain: latency.
        errors: (layers, levels), what each level is thought to cost; infinite where there is none.
    """

    chain: Chain
    errors: Floats

    def brood(self, parents: Ints, bounds: Floats, rng: np.random.Generator) -> Ints:
        """A mutation of every parent; those that could be brought inside their bound.

        Args:
            parents: (n, layers).
            bounds: (n,), of the latency.
            rng: random choices.

        Returns:
            (m, layers), m <= n.
        """
        children = self._switched(parents, rng)
        # half of the time what was switched stays: others make up for it, or it would be undone
        free = (children == parents) | (rng.random((len(children), 1)) < 0.5)
        noise = rng.standard_normal((len(children), *self.errors.shape))
        errors = self.errors * np.exp(_DISTURBANCE * noise)
        by_time, thrifty = rng.random(len(children)) < 0.5, rng.random(len(children)) < _THRIFTY
        children = self._brought_down(children, errors, bounds, free)
        inside = self.chain.of(children) <= bounds
        spending = inside & ~thrifty
        children[spending] = self._spent(
            children[spending], errors[spending], bounds[spending], free[spending],
            by_time=by_time[spending],
        )  # fmt: skip
        return children[inside]

    def _spent(
        self, points: Ints, errors: Floats, bounds: Floats, free: Mask, *, by_time: Mask
    ) -> Ints:
        """Free layers brought to levels of less error while the bound allows.

        What gains most for its time comes first, or, where `by_time` is false, what gains most.
        """
        points, open_ones = points.copy(), np.arange(len(points))
        while len(open_ones):
            added, gain = self._changes(points[open_ones], errors[open_ones])
            left = bounds[open_ones] - self.chain.of(points[open_ones])
            by_time_worth = gain / np.maximum(np.where(np.isfinite(added), added, 1.0), _TINY)
            worth = np.where(by_time[open_ones, None, None], by_time_worth, gain)
            worth[(gain <= 0) | (added > left[:, None, None])] = -np.inf
            worth[~free[open_ones]] = -np.inf
            open_ones = _changed(points, open_ones, worth)
        return points

    def _brought_down(self, points: Ints, errors: Floats, bounds: Floats, free: Mask) -> Ints:
        """Free layers made faster, what costs least error for its time first, until inside."""
        points, open_ones = points.copy(), np.arange(len(points))
        while True:
            open_ones = open_ones[self.chain.of(points[open_ones]) > bounds[open_ones]]
            if not len(open_ones):
                return points
            added, gain = self._changes(points[open_ones], errors[open_ones])
            worth = np.minimum(gain, 0.0) / np.maximum(-added, _TINY)
            worth[added >= -_TINY] = -np.inf
            worth[~free[open_ones]] = -np.inf
            open_ones = _changed(points, open_ones, worth)

    def _changes(self, points: Ints, errors: Floats) -> tuple[Floats, Floats]:
        """(n, layers, levels): what each change adds to the latency, and takes off the error."""
        now = np.take_along_axis(errors, points[:, :, None], axis=2)
        with np.errstate(invalid="ignore"):
            gain = now - errors
        return self.chain.changes(points), gain

    def _switched(self, parents: Ints, rng: np.random.Generator) -> Ints:
        """Some layers of each at other levels, neighbouring ones more often."""
        tops = np.isfinite(self.errors).sum(axis=1) - 1
        shape = parents.shape
        counts = np.minimum(rng.geometric(0.5, size=shape[0]), _MOST_SWITCHES)
        switched = rng.random(shape).argsort(axis=1).argsort(axis=1) < counts[:, None]
        stepped = parents + rng.choice([-1, 1], size=shape)
        # a step off the end goes the other way
        stepped = np.where(stepped < 0, 1, np.where(stepped > tops, tops - 1, stepped))
        stepped = np.clip(stepped, 0, tops)
        anywhere = rng.integers(tops + 1, size=shape)
        near = rng.random(shape) < _TO_A_NEIGHBOUR
        children: Ints = np.where(switched, np.where(near, stepped, anywhere), parents)
        return children


def _changed(points: Ints, rows: Ints, worth: Floats) -> Ints:
    """Make the worthiest change of each row in place; the rows that had one."""
    flat = worth.reshape(len(rows), -1)
    best = flat.argmax(axis=1)
    possible = flat[np.arange(len(rows)), best] > -np.inf
    rows, best = rows[possible], best[possible]
    layers, levels = np.unravel_index(best, worth.shape[1:])
    points[rows, layers] = levels
    return rows
