"""One strategy playing one tabulated space: what was the best after each evaluation?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from autosparse.search import Strategy
from autosparse.search.strategy import LATENCY_CONSTRAINT
from autosparse.search.table_starts import table_starts
from benchmarks.tabulated import Floats, Tabulated


@dataclass(frozen=True)
class Played:
    """Every evaluation, in order."""

    latencies: Floats
    """(evaluations,)."""
    divergences: Floats
    """(evaluations,)."""

    def best_within(self, bound: float) -> Floats:
        """(evaluations,): the least divergence inside the bound so far; infinite where none is."""
        inside = np.where(self.latencies <= bound, self.divergences, np.inf)
        best: Floats = np.minimum.accumulate(inside)
        return best


def play(
    strategy: Strategy,
    table: Tabulated,
    bound: float,
    *,
    seed: int,
    evaluations: int,
    starts: bool = True,
    directions: int | None = None,
) -> Played:
    """Ask, look up, tell. A recipe that is proposed twice is looked up, not evaluated, twice.

    Args:
        strategy: what proposes.
        table: every answer.
        bound: on the latency, as a share of the baseline's.
        seed: of the strategy.
        evaluations: different recipes to look up; those of the starts count.
        starts: begin with what the table and the predictor say, as a job does.
        directions: objectives of the study; the strategy's own where it is None.
    """
    context = table.context(bound, seed)
    objectives = directions or strategy.objectives
    study = optuna.create_study(
        directions=["minimize"] * objectives, sampler=strategy.sampler(context)
    )
    seen: dict[tuple[int, ...], tuple[float, float]] = {}
    for point in _starting_points(table, context_starts=table_starts(context) if starts else ()):
        divergence, latency = seen.setdefault(*_looked_up(table, point))
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                params=dict(point),
                distributions=dict(table.space.distributions()),
                values=[divergence, latency][:objectives],
                constraints={LATENCY_CONSTRAINT: latency / bound - 1.0},
            )
        )
    asked = 0
    while len(seen) < evaluations and asked < 4 * evaluations:
        asked += 1
        trial = study.ask(fixed_distributions=dict(table.space.distributions()))
        divergence, latency = seen.setdefault(*_looked_up(table, trial.params))
        trial.set_constraint(LATENCY_CONSTRAINT, latency / bound - 1.0)
        study.tell(trial, [divergence, latency][:objectives])
    figures = np.array(list(seen.values())[:evaluations])
    return Played(latencies=figures[:, 1], divergences=figures[:, 0])


def _starting_points(
    table: Tabulated, context_starts: Sequence[Mapping[str, int]]
) -> Iterable[Mapping[str, int]]:
    """The fastest recipe, which a job always measures, and the points given."""
    return [dict.fromkeys(table.layers, len(table.options) - 1), *context_starts]


def _looked_up(
    table: Tabulated, point: Mapping[str, int]
) -> tuple[tuple[int, ...], tuple[float, float]]:
    key = tuple(point[name] for name in table.layers)
    return key, (table.divergence(point), table.latency(point))
