"""What our samplers remember: the study is all of it, so that a restart loses nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optuna
import pytest

from autosparse.search.evidence import Evidence
from autosparse.search.population import population_of
from autosparse.search.proposing import ProposingSampler
from autosparse.search.strategies import STRATEGIES
from autosparse.search.strategy import LATENCY_CONSTRAINT, SCREENED
from benchmarks.planted_tables import Planted, whole_budget

OURS = ("auto", "front", "evolution", "knapsack", "lamp", "ecoflap", "uniform", "random")


@pytest.fixture(scope="module")
def planted() -> Planted:
    return whole_budget(0)


def new_study(planted: Planted, name: str, seed: int = 0) -> optuna.Study:
    strategy = STRATEGIES.load(name)
    return optuna.create_study(
        directions=["minimize"] * strategy.objectives,
        sampler=strategy.sampler(planted.table.context(planted.bound, seed)),
    )


def ask(study: optuna.Study, planted: Planted) -> optuna.Trial:
    return study.ask(fixed_distributions=dict(planted.table.space.distributions()))


def tell(study: optuna.Study, trial: optuna.Trial, planted: Planted) -> None:
    latency = planted.table.latency(trial.params)
    trial.set_constraint(LATENCY_CONSTRAINT, latency / planted.bound - 1.0)
    values = [planted.table.divergence(trial.params), latency]
    study.tell(trial, values[: len(study.directions)])


def continued(study: optuna.Study, planted: Planted, count: int) -> list[Mapping[str, int]]:
    points: list[Mapping[str, int]] = []
    for _ in range(count):
        trial = ask(study, planted)
        points.append(trial.params)
        tell(study, trial, planted)
    return points


@pytest.mark.parametrize("name", OURS)
def test_a_study_that_is_opened_again_goes_on_as_it_would_have(name: str, planted: Planted) -> None:
    study = new_study(planted, name)
    continued(study, planted, 12)
    reopened = new_study(planted, name)
    reopened.add_trials(study.get_trials())
    assert continued(reopened, planted, 3) == continued(study, planted, 3)


@pytest.mark.parametrize("name", OURS)
def test_points_that_are_asked_for_together_differ(name: str, planted: Planted) -> None:
    """Several workers: nothing is told yet of what was asked for."""
    study = new_study(planted, name)
    continued(study, planted, 10)
    asked = [tuple(ask(study, planted).params.values()) for _ in range(8)]
    known = {tuple(t.params.values()) for t in study.get_trials()[:10]}
    assert len(set(asked)) == 8
    assert not set(asked) & known


def test_random_points_are_drawn_evenly(planted: Planted) -> None:
    points = continued(new_study(planted, "random"), planted, 400)
    drawn = np.array([list(point.values()) for point in points])
    shares = [(drawn == level).mean(axis=0) for level in range(len(planted.table.options))]
    assert np.allclose(shares, 1 / len(planted.table.options), atol=0.08)


@pytest.mark.parametrize("name", ["auto", "evolution"])
def test_most_offspring_are_inside_the_bound_and_near_it(name: str, planted: Planted) -> None:
    points = continued(new_study(planted, name), planted, 40)
    ratios = np.array([planted.table.latency(point) for point in points]) / planted.bound
    assert (ratios <= 1.01).mean() > 0.95
    assert np.median(ratios) > 0.95


def test_parents_are_the_best_inside_and_what_never_ran_is_none(planted: Planted) -> None:
    study = new_study(planted, "evolution")
    continued(study, planted, 15)
    screened = ask(study, planted)
    screened.set_constraint(LATENCY_CONSTRAINT, 0.0)
    screened.set_user_attr(SCREENED, True)
    study.tell(screened, -1.0)
    sampler = study.sampler
    assert isinstance(sampler, ProposingSampler)
    sampler.evidence.read(study)
    population = population_of(sampler, study, np.random.default_rng(0))
    best = population.chain.point(population.parents[0])
    told = [t for t in study.trials if t.constraints[LATENCY_CONSTRAINT] <= 0.01][:-1]
    assert planted.table.divergence(best) == min(float(t.values[0]) for t in told)


def test_evidence_takes_in_what_is_told_late(planted: Planted) -> None:
    study = new_study(planted, "random")
    evidence = Evidence(tuple(planted.table.layers))
    first, second = ask(study, planted), ask(study, planted)
    tell(study, second, planted)
    evidence.read(study)
    assert len(evidence) == 1
    assert len(evidence.known) == 2
    tell(study, first, planted)
    evidence.read(study)
    evidence.read(study)
    assert len(evidence) == 2
    assert evidence.points.shape == (2, len(planted.table.layers))
    assert evidence.values[:, 0].tolist() == [
        planted.table.divergence(second.params), planted.table.divergence(first.params)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["auto", "evolution"])
def test_proposals_gather_on_both_sides_of_the_bound(name: str, planted: Planted) -> None:
    """What is best lies at the aim: at one alone, every candidate would be as unlikely inside."""
    study = new_study(planted, name)
    continued(study, planted, 20)
    assert isinstance(study.sampler, ProposingSampler)
    aims = []
    for seed in range(60):
        population = population_of(study.sampler, study, np.random.default_rng(seed))
        aims.append(population.bound / planted.bound)
    assert min(aims) < 0.985
    assert max(aims) == pytest.approx(1.01)
    assert 0.2 < float(np.mean(np.array(aims) <= 1.0)) < 0.7
