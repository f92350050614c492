"""A resumed search knows all that it knew: what ran, what was screened out, and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from autosparse.journal import Journal
from autosparse.pipeline.baseline import measure_baseline
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.job import prepare_job
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.optimize import equipped
from autosparse.pipeline.recipe_space import resolve_space
from autosparse.pipeline.search_run import Search
from autosparse.pipeline.starts import run_starts
from autosparse.pipeline.workspace import Workspace, open_workspace
from autosparse.search import CandidateRecord, Rung
from autosparse.search.strategies import STRATEGIES
from autosparse.search.strategy import LATENCY_CONSTRAINT, SCREENED
from tests.fakes.fake_backend import Levels, Planted, is_int8
from tests.pipeline.worlds import World, odd_world

# What is told of a trial, but for its figures: those are the predictor's, which learns.
Told = tuple[tuple[tuple[str, int], ...], TrialState, bool]


def broken_world(root: Path) -> World:
    """Ten layers of odd sizes; two that cannot be lowered at different precisions."""
    world = odd_world(root, 10)

    def broken(levels: Levels) -> str:
        if sum(map(is_int8, levels.values())) < 2:
            return ""
        first, second = (is_int8(levels[name]) for name in world.layers[3:5])
        return "the planted compiler fails" if first != second else ""

    planted = Planted(world.planted.seconds, world.planted.error, broken=broken)
    return replace(world, planted=planted)


@contextmanager
def bench_of(world: World, strategy: str) -> Iterator[Bench]:
    config = world.config(strategy=strategy, trials=8, latency_budget="60%", max_drop="50pt")
    with open_workspace(config, resume=False) as workspace:
        job = prepare_job(config, workspace, world.engines())
        bench, _ = equipped(job, measure_baseline(job))
        yield bench


def search_of(bench: Bench) -> Search:
    """As a job makes it, also when it is resumed."""
    return Search(bench, resolve_space(bench), Ledger(bench.job.workspace.study))


def told(search: Search) -> Counter[Told]:
    study: optuna.Study = search._race._study
    return Counter(
        (tuple(sorted(t.params.items())), t.state, SCREENED in t.user_attrs) for t in study.trials
    )


def known(bench: Bench) -> Mapping[Rung, int]:
    records = Journal(Workspace(bench.job.workspace.root).candidates, CandidateRecord).records
    return Counter(record.rung for record in records)


@pytest.mark.parametrize("strategy", ["random", "evolution", "tpe"])
def test_a_resumed_study_was_told_what_the_one_before_was(tmp_path: Path, strategy: str) -> None:
    with bench_of(broken_world(tmp_path), strategy) as bench:
        first = search_of(bench)
        run_starts(bench, first)
        first.run()
        rungs = known(bench)
        assert rungs[Rung.SAMPLED]
        if strategy == "random":
            assert rungs[Rung.SCREENED]
            assert rungs[Rung.FAILED]
        missing = told(first) - told(search_of(bench))
        # what was proposed twice is in no log twice
        assert all(count > 1 for one, count in told(first).items() if one in missing)


@pytest.mark.parametrize("strategy", STRATEGIES.names())
def test_what_is_known_is_not_proposed_again(tmp_path: Path, strategy: str) -> None:
    with bench_of(broken_world(tmp_path), strategy) as bench:
        first = search_of(bench)
        run_starts(bench, first)
        first.run()
        proposed = search_of(bench)._race.propose(12)
        assert proposed == 12 if strategy not in ("tpe", "nsga2") else proposed > 0


def test_a_screened_one_keeps_its_place_outside_the_bound(tmp_path: Path) -> None:
    with bench_of(broken_world(tmp_path), "random") as bench:
        first = search_of(bench)
        run_starts(bench, first)
        first.run()
        resumed: optuna.Study = search_of(bench)._race._study
        screened = [trial for trial in resumed.trials if SCREENED in trial.user_attrs]
        assert screened
        assert all(trial.constraints[LATENCY_CONSTRAINT] > 0 for trial in screened)
        assert all(trial.value is not None and trial.value > 0 for trial in screened)
