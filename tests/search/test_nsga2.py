"""NSGA-II breeds from everything that was told, and not only from what it proposed itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from autosparse.search.strategies import STRATEGIES
from autosparse.search.strategies.nsga2 import WholeStudySampler
from autosparse.search.strategy import LATENCY_CONSTRAINT
from benchmarks.planted_tables import Planted, whole_budget

POPULATION = 20


@pytest.fixture(scope="module")
def planted() -> Planted:
    return whole_budget(0)


def new_study(planted: Planted) -> optuna.Study:
    sampler = STRATEGIES.load("nsga2").sampler(planted.table.context(planted.bound, 0))
    return optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)


def teach(
    study: optuna.Study,
    planted: Planted,
    point: Mapping[str, int],
    values: Sequence[float] | None = None,
) -> int:
    """Add a point that nobody proposed; its number."""
    table = planted.table
    study.add_trial(
        create_trial(
            params=dict(point),
            distributions=dict(table.space.distributions()),
            values=values or [table.divergence(point), table.latency(point)],
            constraints={LATENCY_CONSTRAINT: table.latency(point) / planted.bound - 1.0},
        )
    )
    return len(study.trials) - 1


def continued(study: optuna.Study, planted: Planted, count: int) -> list[dict[str, int]]:
    points, table = [], planted.table
    for _ in range(count):
        trial = study.ask(fixed_distributions=dict(table.space.distributions()))
        points.append(dict(trial.params))
        latency = table.latency(trial.params)
        trial.set_constraint(LATENCY_CONSTRAINT, latency / planted.bound - 1.0)
        study.tell(trial, [table.divergence(trial.params), latency])
    return points


def corner(planted: Planted, number: int) -> dict[str, int]:
    """One of several points that agree in all layers but the last two."""
    layers = planted.table.layers
    return {**dict.fromkeys(layers, 3), layers[-2]: number % 4, layers[-1]: number // 4 % 4}


def share_in_the_corner(planted: Planted, points: Sequence[Mapping[str, int]]) -> float:
    layers = planted.table.layers[:-2]
    return float(np.mean([[point[layer] == 3 for layer in layers] for point in points]))


def test_what_was_told_before_are_its_first_parents(planted: Planted) -> None:
    study = new_study(planted)
    for number in range(POPULATION):
        teach(study, planted, corner(planted, number))
    # a crossover stays in the corner, and a mutation changes one layer of eight
    assert share_in_the_corner(planted, continued(study, planted, 12)) > 0.8
    drawn = continued(new_study(planted), planted, 12)
    assert share_in_the_corner(planted, drawn) < 0.5


def test_starts_count_towards_the_first_generation(planted: Planted) -> None:
    study = new_study(planted)
    for number in range(POPULATION - 5):
        teach(study, planted, corner(planted, number))
    sampler = study.sampler
    assert isinstance(sampler, WholeStudySampler)
    continued(study, planted, 6)
    generations = [sampler.get_trial_generation(study, t) for t in study.get_trials()]
    assert generations == [0] * POPULATION + [1]


def test_what_is_added_in_between_breeds_in_the_next_generation(planted: Planted) -> None:
    study = new_study(planted)
    continued(study, planted, 2 * POPULATION + 5)
    best = teach(study, planted, dict.fromkeys(planted.table.layers, 3), [-1.0, -1.0])
    sampler = study.sampler
    assert isinstance(sampler, WholeStudySampler)
    assert sampler.get_trial_generation(study, study.trials[best]) == 2
    continued(study, planted, POPULATION)
    parents = sampler.get_parent_population(study, 3)
    assert len(parents) == POPULATION
    assert best in [trial.number for trial in parents]


def test_what_failed_is_no_parent(planted: Planted) -> None:
    study = new_study(planted)
    for _ in range(POPULATION):
        trial = study.ask(fixed_distributions=dict(planted.table.space.distributions()))
        study.tell(trial, state=TrialState.FAIL)
    points = continued(study, planted, POPULATION + 1)
    sampler = study.sampler
    assert isinstance(sampler, WholeStudySampler)
    assert len(points) == POPULATION + 1
    assert len(sampler.get_population(study, 0)) == POPULATION


def test_another_sampler_of_the_same_study_breeds_from_all_of_it(planted: Planted) -> None:
    """Generations are the sampler's own: those of an earlier one are no parents for ever."""
    study = new_study(planted)
    continued(study, planted, 3 * POPULATION)
    best = teach(study, planted, dict.fromkeys(planted.table.layers, 3), [-1.0, -1.0])
    study.sampler = new_study(planted).sampler
    assert isinstance(study.sampler, WholeStudySampler)
    continued(study, planted, 1)
    parents = study.sampler.get_parent_population(study, 1)
    assert best in [trial.number for trial in parents]
