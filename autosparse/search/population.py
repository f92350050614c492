"""The best known points inside a latency bound: what offspring come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import optuna

from autosparse.search.chain import Chain, Floats, Ints, Point
from autosparse.search.proposing import ProposingSampler

_PARENTS = 10
# By how many tolerances an aim may lie below the bound; so often it is the highest there is.
_BELOW, _AT_THE_TOP = 2.0, 1 / 3
# Offspring that are asked of the predictor before the search gives up for this time.
_CHECKS = 12


@dataclass(frozen=True)
class Population:
    """Parents, and the bound that their offspring have to keep.

    Args:
        sampler: whose evidence and predictor are used.
        chain: latency.
        bound: on the predicted latency, tolerance included.
        parents: (parents, layers), the best first.
        gaps: what the predictor says of each parent beyond what the chain does.
    """

    sampler: ProposingSampler
    chain: Chain
    bound: float
    parents: Ints
    gaps: Floats

    def drawn(self, count: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """Parents, and the bounds that hold for the chain's view of their offspring."""
        chosen = rng.integers(len(self.parents), size=count)
        return self.parents[chosen], self.bound - self.gaps[chosen]

    def new_ones(self, points: Ints) -> Ints:
        """Those of (n, layers) points that were never proposed, each once, in their order."""
        known = self.sampler.evidence.known
        fresh = dict.fromkeys(key for key in map(tuple, points.tolist()) if key not in known)
        return np.array(list(fresh), dtype=np.int64).reshape(len(fresh), points.shape[1])

    def first_inside(self, ordered: Ints) -> Point | None:
        """The first point that the predictor, too, sees inside the bound, and the size limit."""
        for numbers in ordered[:_CHECKS]:
            point = self.chain.point(numbers)
            if self.sampler.context.predicted_ratio(point) <= self.bound and self._is_small(point):
                return point
        return None

    def _is_small(self, point: Point) -> bool:
        space, limit = self.sampler.context.space, self.sampler.context.size_limit
        return limit is None or limit.predict(space.recipe(point).levels) <= limit.aim


def population_of(
    sampler: ProposingSampler, study: optuna.Study, rng: np.random.Generator
) -> Population:
    """The best points inside the bound; the fastest point where there is none.

    With one objective the bound is the context's, and the aim of every proposal is drawn from
    around it. What is best always lies at the aim, and of what is predicted just beyond the bound
    most comes out beyond it: whoever measures needs something a little below to choose, too. With
    two, the bound is drawn, from the fastest point's latency up, so that proposals gather along
    the whole front.
    """
    context, evidence, chain = sampler.context, sampler.evidence, sampler.chain()
    fastest = np.array([d.high for d in sampler.distributions.values()], dtype=np.int64)
    tolerance, bound = context.latency_tolerance, context.latency_bound
    inside = evidence.violations <= tolerance
    aim = (
        1.0 if len(study.directions) > 1 or rng.random() < _AT_THE_TOP else rng.uniform(-_BELOW, 1)
    )
    if len(study.directions) > 1:
        least = context.predicted_ratio(chain.point(fastest))
        bound = float(rng.uniform(min(least, bound), bound))
        if len(evidence):
            inside &= evidence.values[:, 1] <= bound * (1 + tolerance)
    rows = np.flatnonzero(inside & evidence.trusted)
    parents = fastest[None, :]
    if len(rows):
        best = rows[np.argsort(evidence.values[rows, 0], kind="stable")]
        parents = evidence.points[best[:_PARENTS]]
    gaps = np.array([sampler.beyond_chain(chain, parent) for parent in parents])
    return Population(sampler, chain, bound * (1 + aim * tolerance), parents, gaps)
