"""What a study has told so far, as arrays; read once, however long the study is."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from autosparse.search.chain import Floats, Ints
from autosparse.search.strategy import SCREENED


class Evidence:
    """Finished trials of one study over the layers that have a choice.

    Args:
        names: layers in the order of the columns.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.known: set[tuple[int, ...]] = set()
        """Every point that was proposed, also where it failed or is not finished."""
        self.points: Ints = np.empty((0, len(names)), dtype=np.int64)
        """(trials, layers)."""
        self.values: Floats = np.empty((0, 0))
        """(trials, objectives): the divergence first, then the latency where it is one."""
        self.violations: Floats = np.empty(0)
        """(trials,): sum of what each constraint is violated by, in shares of its bound."""
        self.trusted = np.empty(0, dtype=bool)
        """(trials,): whether the divergence was observed, and not read off the table."""
        self._next = 0
        self._open: list[int] = []

    def __len__(self) -> int:
        return len(self.points)

    def read(self, study: optuna.Study) -> None:
        """Take in what is new."""
        trials = study.get_trials(deepcopy=False)
        wanted = [trials[number] for number in (*self._open, *range(self._next, len(trials)))]
        self._next = len(trials)
        self._open = [trial.number for trial in wanted if not trial.state.is_finished()]
        named = [trial for trial in wanted if all(name in trial.params for name in self.names)]
        self.known.update(self._point(trial) for trial in named)
        complete = [trial for trial in wanted if trial.state is TrialState.COMPLETE]
        if complete:
            self._take(complete, objectives=len(study.directions))

    def _take(self, trials: list[FrozenTrial], objectives: int) -> None:
        points = np.array([self._point(trial) for trial in trials], dtype=np.int64)
        values = np.array([trial.values for trial in trials], dtype=np.float64)
        violations = [sum(max(v, 0.0) for v in trial.constraints.values()) for trial in trials]
        trusted = [SCREENED not in trial.user_attrs for trial in trials]
        self.points = np.concatenate([self.points, points.reshape(len(trials), len(self.names))])
        self.values = np.concatenate([self.values.reshape(-1, objectives), values])
        self.violations = np.concatenate([self.violations, np.array(violations)])
        self.trusted = np.concatenate([self.trusted, np.array(trusted)])

    def _point(self, trial: FrozenTrial) -> tuple[int, ...]:
        return tuple(int(trial.params[name]) for name in self.names)
