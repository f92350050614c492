"""A strategy with two objectives measures a front, and not only what is best at one bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.evaluation import Verdict
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.starts import START
from autosparse.pipeline.workspace import Workspace
from tests.pipeline.worlds import World, least_error, odd_world

BUDGETS = (0.5, 0.6, 0.7)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return odd_world(tmp_path, 8)


def measured(world: World, strategy: str) -> list[TrialRecord]:
    """Trials of a job that allows 80 % of the latency."""
    result = world.run(strategy=strategy, latency_budget="80%", max_drop="50pt", trials=16)
    assert result.verdict is Verdict.MET
    records = Ledger(Workspace(world.root / "out").study).records
    return [record for record in records if record.proposed_by != START]


def best_found(world: World, trials: list[TrialRecord], share: float) -> float:
    """Least error of what was measured inside a share of the latency, over the least there is."""
    inside = [t for t in trials if t.evidence.latency_ratio <= share]
    found = min((world.planted.error(t.recipe.levels) for t in inside), default=float("inf"))
    return found / least_error(world, share)


def test_what_is_measured_lies_along_all_budgets(world: World) -> None:
    trials = measured(world, "front")
    assert all(best_found(world, trials, share) < 1.6 for share in BUDGETS)
    # and the contract's own bound had its turns
    assert best_found(world, trials, 0.8) < 1.1


@pytest.mark.slow
def test_with_one_objective_all_trials_are_for_the_contracts_bound(world: World) -> None:
    trials = measured(world, "auto")
    assert best_found(world, trials, 0.8) < 1.1
    assert any(best_found(world, trials, share) > 1.6 for share in BUDGETS)
