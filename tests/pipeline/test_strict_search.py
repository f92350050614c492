"""With `--strict`, a search aims at what the gate will let through, and spends no trials beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from autosparse.evaluation import Verdict
from autosparse.journal import Journal
from autosparse.levels import Recipe
from autosparse.pipeline.job import Engines
from autosparse.pipeline.ledger import Ledger, constraints_of
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.recipe_timing import TRIAL_TIMING
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.starts import START
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from autosparse.search.strategy import LATENCY_CONSTRAINT
from tests.fakes.fake_backend import FakeBackend, Planted
from tests.fakes.noisy_lane import NoisyLane
from tests.pipeline.sparse_world import Notes, SparseWorld
from tests.pipeline.test_descent import SPACE, borders, seconds
from tests.pipeline.worlds import World, least_error, odd_world

# Rounds of a trial: the upper end of its interval lies 3 % over what it takes.
NOISE = {TRIAL_TIMING.rounds: (0.97, 1.0, 1.0, 1.0, 1.03)}
OVER = 1.03
BOUND = 0.7
LAYERS, TRIALS = 9, 10


@dataclass(frozen=True)
class Ended:
    """A job that has ended."""

    world: World
    result: Result

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.world.root / "out")

    @property
    def searched(self) -> list[TrialRecord]:
        """Trials that the strategy proposed."""
        return [r for r in Ledger(self.workspace.study).records if r.proposed_by != START]


def ended(root: Path, *, strict: bool) -> Ended:
    world = odd_world(root, LAYERS)
    lane = NoisyLane(world.planted, world.layers, factors=NOISE)
    engines = Engines(backend=FakeBackend(world.planted), lane=lane, progress=Notes())
    budget = f"{100 * BOUND:.0f}%"
    result = world.run(
        engines=engines, latency_budget=budget, max_drop="50pt", trials=TRIALS, strict=strict
    )
    return Ended(world, result)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return ended(tmp_path_factory.mktemp("strict"), strict=True)


def test_hardly_a_trial_is_one_that_the_gate_must_refuse(strict: Ended) -> None:
    tried = [record.evidence for record in strict.searched]
    assert len(tried) >= 5
    refused = [evidence for evidence in tried if evidence.latency_ratio_high > BOUND]
    assert len(refused) <= 1
    # and the bound is not left far below either
    assert max(evidence.latency_ratio_high for evidence in tried) > 0.95 * BOUND


def test_the_answer_is_the_best_that_keeps_the_bound_with_its_interval(strict: Ended) -> None:
    assert strict.result.verdict is Verdict.MET
    world = strict.world
    delivered = Recipe.load(world.root / "out" / "bundle" / "recipe.yaml")
    best = least_error(world, BOUND / OVER)
    assert world.planted.error(delivered.levels) <= 1.1 * best


def test_a_screened_candidate_tells_what_it_was_held_against(strict: Ended) -> None:
    """A job that is resumed without `--strict` asks anew about what only the interval ruled out."""
    log = Journal(strict.workspace.candidates, CandidateRecord)
    bounds = [r.bound for r in log.records if r.rung is Rung.SCREENED]
    assert bounds == pytest.approx([BOUND / OVER] * len(bounds), rel=1e-3)


def test_the_study_holds_a_trial_to_what_the_gate_does(strict: Ended) -> None:
    contract = strict.result.manifest.contract
    for record in strict.searched:
        violation = constraints_of(record, contract)[LATENCY_CONSTRAINT]
        assert violation == pytest.approx(record.evidence.latency_ratio_high / BOUND - 1.0)
        assert (violation <= 0) is record.evidence.meets_budget(contract)


def test_without_strict_the_estimate_is_what_counts(tmp_path: Path) -> None:
    found = ended(tmp_path, strict=False)
    assert found.result.verdict is Verdict.MET
    ratios = [record.evidence.latency_ratio for record in found.searched]
    assert max(ratio for ratio in ratios if ratio <= BOUND) > BOUND / OVER


@pytest.mark.parametrize(("is_strict", "fastest"), [(False, 0.1675), (True, 0.14)])
def test_the_descent_goes_on_until_the_whole_interval_is_inside(
    tmp_path: Path, *, is_strict: bool, fastest: float
) -> None:
    """The table's fastest levels take 16.75 % and, with 3 % more, are over the budget of 17 %."""
    sparse = SparseWorld.make(tmp_path, count=4)
    planted = Planted(seconds, lambda levels: 0.0, joint_seconds=borders)
    space = tmp_path / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    sparse.backend.planted = planted
    lane = NoisyLane(planted, sparse.world.layers, factors=NOISE)
    result = sparse.world.run(
        engines=Engines(sparse.backend, lane, sparse.progress), space=str(space),
        latency_budget="17%", max_drop="50pt", trials=3, strict=is_strict,
    )  # fmt: skip
    assert result.manifest.fastest is not None
    assert result.manifest.fastest.latency_ratio == pytest.approx(fastest)
