"""Every complete trial says how far it is from its bounds, in shares of them."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from autosparse.pipeline.workspace import Workspace
from autosparse.search.strategy import DROP_CONSTRAINT, LATENCY_CONSTRAINT
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error


def test_a_trial_without_constraints_would_count_as_feasible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[optuna.Study] = []
    create = optuna.create_study

    def remembered(**options: object) -> optuna.Study:
        made.append(create(**options))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(optuna, "create_study", remembered)
    world = World.make(tmp_path, 5, Planted(layer_seconds, summed_error({})))
    world.run(strategy="random", trials=8)
    in_memory = next(study for study in made if len(study.directions) == 1)
    told = in_memory.get_trials(states=(TrialState.COMPLETE,))
    assert told
    assert all(trial.constraints.keys() == {LATENCY_CONSTRAINT} for trial in told)
    # shares of the bound: the dense model is 100 / 70 of it, the fastest recipe 40 / 70
    violations = [trial.constraints[LATENCY_CONSTRAINT] for trial in told]
    assert all(-0.6 < violation < 0.6 for violation in violations)
    assert min(violations) < 0 < max(violations)

    storage = JournalStorage(JournalFileBackend(str(Workspace(tmp_path / "out").study)))
    (durable,) = optuna.get_all_study_names(storage)
    written = optuna.load_study(study_name=durable, storage=storage).get_trials()
    assert written
    assert all(
        trial.constraints.keys() == {LATENCY_CONSTRAINT, DROP_CONSTRAINT} for trial in written
    )
