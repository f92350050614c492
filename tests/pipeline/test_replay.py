"""A search from its log: the same choices, no device, and nothing touched."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import CandidateError, ConfigError, UserInputError
from autosparse.evaluation import LoweredModel
from autosparse.journal import Journal, write_journal
from autosparse.pipeline.job import Engines
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.pool import A, InProcess, K, Task, attempt
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.replay import Replayed, run_replay
from autosparse.pipeline.resolve import run_resolve
from autosparse.pipeline.resolve_config import read_resolve_config
from autosparse.pipeline.scoring import FewRows
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from tests.fakes.fake_backend import FakeBackend
from tests.fakes.fake_lane import Killed
from tests.pipeline.worlds import World, odd_world

TRIALS = 9
# The trial, from 0 on, that looks worse in an altered log: a strategy proposed it.
CHANGED = 5


def replayed(world: World, root: Path | None = None) -> Replayed:
    backend = FakeBackend(world.planted)
    return run_replay(root or world.root / "out", lambda name: backend, Silent())


def job_of(root: Path, strategy: str = "auto") -> World:
    world = odd_world(root, 7)
    world.run(strategy=strategy, trials=TRIALS, max_drop="50pt")
    return world


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    return job_of(tmp_path_factory.mktemp("finished"))


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_every_choice_comes_out_again_and_the_job_is_only_read(finished: World) -> None:
    before = digests(finished.root)
    found = replayed(finished)
    assert found.difference == ""
    assert (found.trials, found.logged) == (TRIALS, TRIALS)
    log = Journal(Workspace(finished.root / "out").candidates, CandidateRecord).records
    assert 0 < found.candidates <= len(log)
    assert digests(finished.root) == before


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["tpe", "front"])
def test_other_strategies_choose_by_seed_and_evidence_too(tmp_path: Path, strategy: str) -> None:
    found = replayed(job_of(tmp_path, strategy))
    assert (found.difference, found.trials) == ("", TRIALS)


@dataclass
class Counted(Silent):
    """Counts trials."""

    trials: int = 0

    def trial(self, record: TrialRecord, best: TrialRecord | None) -> None:
        self.trials += 1


@dataclass
class KillingPool(InProcess):
    """The job is killed in the middle of a round, with so many recipes sampled before."""

    left: int

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        return [self._answer(kit, task) for task in tasks]

    def _answer(self, kit: Any, task: Any) -> Any:
        self.left -= isinstance(task, FewRows)
        if self.left < 0:
            raise Killed
        return attempt(task, kit)


def killed_in_a_trial(world: World, trials: int) -> Engines:
    """In the middle of the one after so many."""
    counted = Counted()

    def kill(files: Mapping[str, LoweredModel]) -> None:
        if counted.trials == trials:
            raise Killed

    return replace(world.engines(fail=kill), progress=counted)


@pytest.mark.parametrize(("strategy", "sampled"), [("auto", (20, 5)), ("random", (4, 1))])
def test_a_job_that_was_killed_comes_out_again_from_where_it_went_on(
    tmp_path: Path, strategy: str, sampled: tuple[int, int]
) -> None:
    """In a trial, and twice in a round; most random recipes are screened out, and not sampled."""
    world = odd_world(tmp_path, 7)
    asked: dict[str, Any] = {"strategy": strategy, "trials": TRIALS, "max_drop": "50pt"}
    in_rounds = [replace(world.engines(), pool=KillingPool(left=left)) for left in sampled]
    killed = [killed_in_a_trial(world, 5), *in_rounds]
    for number, engines in enumerate(killed):
        with pytest.raises(Killed):
            world.run(engines=engines, resume=number > 0, **asked)
    world.run(resume=True, **asked)
    found = replayed(world)
    assert (found.difference, found.trials, found.logged) == ("", TRIALS, TRIALS)
    # whoever does not know where it went on comes to other choices
    Workspace(world.root / "out").resumptions.unlink()
    assert replayed(world).difference


def altered(world: World, tmp_path: Path, factor: float) -> Path:
    """A copy of the job, in whose log the recipe of one trial looked worse on the few rows."""
    root = tmp_path / "altered"
    shutil.copytree(world.root / "out" / "job", root / "job")
    workspace = Workspace(root)
    chosen = Ledger(workspace.study).records[CHANGED].recipe.id
    records = [
        record.model_copy(update={"divergence": factor * (record.divergence or 0.0)})
        if record.recipe.id == chosen and record.rung is Rung.SAMPLED
        else record
        for record in Journal(workspace.candidates, CandidateRecord).records
    ]
    write_journal(workspace.candidates, records)
    return root


def test_a_log_that_says_otherwise_leads_elsewhere(finished: World, tmp_path: Path) -> None:
    found = replayed(finished, altered(finished, tmp_path, 1e4))
    assert found.difference
    assert found.trials <= CHANGED


def test_a_bundle_names_its_job_and_trials_are_needed(finished: World, tmp_path: Path) -> None:
    assert replayed(finished, finished.root / "out" / "bundle").difference == ""
    world = odd_world(tmp_path, 5)
    calls = itertools.count()

    def kill(files: Mapping[str, LoweredModel]) -> None:
        if next(calls) == 4:
            raise Killed

    with pytest.raises(Killed):
        world.run(engines=world.engines(fail=kill), max_drop="50pt")
    with pytest.raises(UserInputError, match=r"has no (trials yet|level table)"):
        replayed(world)


def test_an_answer_from_another_jobs_evidence_is_refused(finished: World, tmp_path: Path) -> None:
    asked = {"source": finished.root / "out", "latency_budget": "80%", "trials": 0}
    config = read_resolve_config({**asked, "output_dir": tmp_path / "resolved"})
    run_resolve(config, lambda target: finished.engines())
    with pytest.raises(ConfigError, match="began with what another one had measured"):
        replayed(finished, tmp_path / "resolved")


def test_a_model_that_changed_is_no_ground_for_a_replay(finished: World, tmp_path: Path) -> None:
    root = altered(finished, tmp_path, 1.0)
    inputs = root / "job" / "inputs.json"
    stored = json.loads(inputs.read_bytes())
    inputs.write_text(json.dumps({**stored, "model": "0" * 64}), encoding="utf-8")
    with pytest.raises(ConfigError, match="model"):
        replayed(finished, root)
