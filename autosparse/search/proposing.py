"""What our samplers share: whole points are proposed, and from the same evidence the same point."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from autosparse.search.chain import Chain, Floats, Ints, Point, chain_of
from autosparse.search.evidence import Evidence
from autosparse.search.size_price import priced
from autosparse.search.strategy import StrategyContext

# A chain is asked for again when the predictor moved by this share of the baseline's latency.
_MOVED = 0.003
_RANDOM_DRAWS = 20


class ProposingSampler(BaseSampler):
    """A sampler of points: subclasses say which one is next.

    Args:
        context: space, scores, bound and predictor.
    """

    def __init__(self, context: StrategyContext) -> None:
        self.context = context
        self.distributions = context.space.distributions()
        self.evidence = Evidence(tuple(self.distributions))
        self._known_chain: tuple[Chain, float] | None = None
        self._priced: dict[bytes, Floats] = {}
        self._priced_at = 0
        self._random = RandomSampler(seed=context.seed)

    @abstractmethod
    def propose(self, study: optuna.Study, rng: np.random.Generator) -> Point | None:
        """A point that is not known yet; None where none comes to mind.

        Args:
            study: for its directions; what it told is in `self.evidence` already.
            rng: a function of the seed and the number of trials, so that a study that is opened
                again goes on as it would have.
        """

    def is_new(self, point: Point) -> bool:
        """Whether a point was never proposed."""
        return tuple(point[name] for name in self.distributions) not in self.evidence.known

    def chain(self) -> Chain:
        """The latency as the predictor sees it now, or almost now."""
        if self._known_chain is None or self._moved(*self._known_chain) > _MOVED:
            chain = chain_of(self.context)
            self._known_chain = chain, self.beyond_chain(chain, self._fastest(chain))
        return self._known_chain[0]

    def priced(self, errors: Floats) -> Floats:
        """Errors with a price on bytes where the size is limited; found once for what is known."""
        if self.context.size_limit is None:
            return errors
        if self._priced_at != len(self.evidence):
            self._priced_at, self._priced = len(self.evidence), {}
        key = errors.tobytes()
        if key not in self._priced:
            self._priced[key] = priced(self.context, self.chain(), errors)
        return self._priced[key]

    def beyond_chain(self, chain: Chain, numbers: Ints) -> float:
        """What the predictor says of a point beyond what the chain does."""
        return self.context.predicted_ratio(chain.point(numbers)) - float(
            chain.of(numbers[None])[0]
        )

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole space: a proposal is a recipe, never a parameter alone."""
        return dict(self.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal, or a random point where nothing new comes to mind."""
        self.evidence.read(study)
        if not self.distributions:
            return {}
        rng = np.random.default_rng([self.context.seed, trial.number])
        return self.propose(study, rng) or self._anything(rng)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A parameter that is none of the space's: nothing is known of it."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _anything(self, rng: np.random.Generator) -> Point:
        """A random point, a new one if some draws find any."""
        for _ in range(_RANDOM_DRAWS):
            point = {n: int(rng.integers(d.high + 1)) for n, d in self.distributions.items()}
            if self.is_new(point):
                break
        return point

    def _moved(self, chain: Chain, gap: float) -> float:
        """How far the predictor moved since it was asked for the chain, at both ends."""
        slowest, fastest = np.zeros(len(chain.names), dtype=np.int64), self._fastest(chain)
        now = self.beyond_chain(chain, fastest)
        return max(abs(self.beyond_chain(chain, slowest)), abs(now - gap))

    def _fastest(self, chain: Chain) -> Ints:
        return np.array([d.high for d in self.distributions.values()], dtype=np.int64)
