"""What a study has told so far, as arrays; read once, however long the study is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import optuna
from optuna.trial import FrozenTrial, TrialState

from autosparse.search.chain import Floats, Ints
from autosparse.search.strategy import SCREENED


@dataclass
class Evidence:
    """Finished trials of one study over the layers that have a choice.

    Args:
        names: layers in the order of the columns.
    """

    names: tuple[str, ...]
    known: set[tuple[int, ...]] = field(default_factory=set)
    """Every point that was proposed, also where it failed or is not finished."""
    _rows: list[tuple[int, ...]] = field(default_factory=list)
    _values: list[tuple[float, ...]] = field(default_factory=list)
    _violations: list[float] = field(default_factory=list)
    _trusted: list[bool] = field(default_factory=list)
    _next: int = 0
    _open: list[int] = field(default_factory=list)

    def read(self, study: optuna.Study) -> None:
        """Take in what is new."""
        trials = study.get_trials(deepcopy=False)
        wanted = [*self._open, *range(self._next, len(trials))]
        self._open, self._next = [], len(trials)
        for number in wanted:
            trial = trials[number]
            if all(name in trial.params for name in self.names):
                self.known.add(self._point(trial))
            if not trial.state.is_finished():
                self._open.append(number)
            elif trial.state is TrialState.COMPLETE:
                self._take(trial)

    def _take(self, trial: FrozenTrial) -> None:
        self._rows.append(self._point(trial))
        self._values.append(tuple(trial.values))
        self._violations.append(sum(max(v, 0.0) for v in trial.constraints.values()))
        self._trusted.append(SCREENED not in trial.user_attrs)

    def _point(self, trial: FrozenTrial) -> tuple[int, ...]:
        return tuple(int(trial.params[name]) for name in self.names)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def points(self) -> Ints:
        """(trials, layers)."""
        return np.array(self._rows, dtype=np.int64).reshape(len(self._rows), len(self.names))

    @property
    def values(self) -> Floats:
        """(trials, objectives): the divergence first, then the latency where it is one."""
        return np.array(self._values, dtype=np.float64)

    @property
    def violations(self) -> Floats:
        """(trials,): sum of what each constraint is violated by, in shares of its bound."""
        return np.array(self._violations, dtype=np.float64)

    @property
    def trusted(self) -> npt.NDArray[np.bool_]:
        """(trials,): whether the divergence was observed, and not read off the table."""
        return np.array(self._trusted, dtype=bool)
