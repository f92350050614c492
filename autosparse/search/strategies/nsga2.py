"""NSGA-II on quality and latency: a front rather than one point."""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState

from autosparse.search.strategy import StrategyContext

_POPULATION = 20


class WholeStudySampler(NSGAIISampler):
    """Optuna's NSGA-II, to whose generations every point belongs, whoever proposed it.

    Optuna counts what its own sampler proposed. The starts of a search, and everything that a
    resumed one was told, would never be parents. Here a point belongs to the generation that was
    bred when it was asked for or added.

    Args:
        seed: of every random choice.
        population_size: points of a generation, and parents that are chosen from it.
    """

    def __init__(self, seed: int, population_size: int = _POPULATION) -> None:
        super().__init__(seed=seed, population_size=population_size)
        self._size = population_size
        self._firsts: list[int] = []
        """Number of the first trial of each generation, from the second generation on."""
        self._latest = -1
        self._parents: dict[int, list[FrozenTrial]] = {}

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """Which generation a trial belongs to; a new trial begins one where the last is full."""
        if trial.number > self._latest:
            self._latest = trial.number
            if len(self.get_population(study, len(self._firsts))) >= self._size:
                self._firsts.append(trial.number)
        return bisect_right(self._firsts, trial.number)

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """Finished trials of a generation."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [t for t in finished if bisect_right(self._firsts, t.number) == generation]

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """The best before a generation, chosen when it begins; none before the first.

        They are kept here: a study that is opened again has generations of its own.
        """
        if generation and generation not in self._parents:
            self._parents[generation] = self.select_parent(study, generation)
        return self._parents.get(generation, [])


class Nsga2:
    """Optuna's NSGA-II over ordered levels, two objectives."""

    name = "nsga2"
    summary = (
        "Optuna's NSGA-II on divergence and latency; when a front is wanted of a well-known "
        "sampler, to hold `front` against"
    )
    source = "Deb et al. 2002, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II"
    objectives: Literal[1, 2] = 2

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """Seeded by the context; constraints are read from the trials."""
        return WholeStudySampler(context.seed)
