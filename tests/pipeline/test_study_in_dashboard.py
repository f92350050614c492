"""What optuna-dashboard reads of a job's study, through Optuna's own storage.

Its serializer takes, of every trial: number, state, values that are numbers, parameters, attributes
that JSON can tell, the times of its begin and end; of the study: directions, the best trials and
the search spaces; and it fails where one of them is not there. What the dashboard itself shows was
looked at by hand, and is told in `docs/resume.md`.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from autosparse.evaluation import Verdict
from autosparse.pipeline.ledger import STUDY_NAME, Ledger
from autosparse.pipeline.workspace import Workspace
from autosparse.search.strategy import DROP_CONSTRAINT, LATENCY_CONSTRAINT
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error

# some recipes are ruined: their drop is far outside
ERRORS = {"layer0": 0.01, "layer1": 3.0, "layer2": 0.02}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = World.make(
        tmp_path_factory.mktemp("world"), 3, Planted(layer_seconds, summed_error(ERRORS))
    )
    assert world.run(latency_budget="65%", trials=8).verdict is Verdict.MET
    # as a user would: of a copy, since the dashboard can write
    return Path(shutil.copy(Workspace(world.root / "out").study, world.root / "study.journal"))


@pytest.fixture(scope="module")
def study(journal: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=STUDY_NAME, storage=storage)


def told(trial: FrozenTrial) -> dict[str, Any]:
    """A trial as the dashboard sends it to its page; JSON has no NaN."""
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    assert trial.values is not None
    document = {
        "number": trial.number,
        "state": trial.state.name.capitalize(),
        "values": trial.values,
        "params": [{"name": n, "value": str(v)} for n, v in trial.params.items()],
        "user_attrs": {key: json.dumps(value) for key, value in trial.user_attrs.items()},
        "system_attrs": {key: json.dumps(value) for key, value in trial.system_attrs.items()},
        "begun": trial.datetime_start.isoformat(),
        "ended": trial.datetime_complete.isoformat(),
    }
    sent: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    return sent


def test_the_list_of_studies_names_it(journal: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    (summary,) = optuna.get_all_study_summaries(storage)
    assert summary.study_name == STUDY_NAME
    assert [direction.name for direction in summary.directions] == ["MINIMIZE", "MINIMIZE"]
    assert summary.n_trials == len(Ledger(journal).records) >= 5
    assert summary.datetime_start is not None
    json.dumps(summary.user_attrs, allow_nan=False)


def test_every_trial_can_be_shown(study: optuna.Study) -> None:
    shown = [told(trial) for trial in study.get_trials(deepcopy=False)]
    assert [trial["number"] for trial in shown] == list(range(len(shown)))
    assert {trial["state"] for trial in shown} == {"Complete"}
    for trial, record in zip(shown, records(study), strict=True):
        assert trial["values"] == [record["evidence"]["drop"], record["evidence"]["latency_ratio"]]
        assert all(math.isfinite(value) for value in trial["values"])
        assert trial["begun"] <= trial["ended"]


def records(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.user_attrs["record"] for trial in study.get_trials(deepcopy=False)]


def test_the_front_is_of_trials_inside_the_bounds(study: optuna.Study) -> None:
    """A trial without constraints would count as inside."""
    best = study.best_trials
    assert best
    outside = 0
    for trial in study.get_trials(deepcopy=False):
        assert trial.state is TrialState.COMPLETE
        assert trial.constraints.keys() >= {LATENCY_CONSTRAINT, DROP_CONSTRAINT}
        violated = any(value > 0 for value in trial.constraints.values())
        outside += violated
        assert not (violated and trial in best)
    assert outside


def test_its_plots_have_no_parameter_to_stumble_over(study: optuna.Study) -> None:
    """A recipe is one attribute; pages about parameters are empty, and not broken."""
    trials = study.get_trials(deepcopy=False)
    assert optuna.search_space.intersection_search_space(trials) == {}
    assert not any(trial.intermediate_values for trial in trials)
