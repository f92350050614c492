"""Rows of the tabulated space: regret at three budgets, and the hypervolume of the front."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autosparse.search.strategies import STRATEGIES
from autosparse.search.thresholds import threshold_point, uniform_scores
from benchmarks.benchmark import Request
from benchmarks.curves import write_curves
from benchmarks.hypervolume import hypervolume, hypervolumes
from benchmarks.rows import Row
from benchmarks.search_play import play
from benchmarks.tabulated import Floats, Tabulated

BUDGETS = (0.34, 0.4, 0.46)
_ARMS = ("auto", "evolution", "tpe", "random")
_FRONT_ARMS = ("front", "nsga2", "random")
_EVALUATIONS, _FRONT_EVALUATIONS = 100, 400
_MOST_REGRET, _LEAST_VOLUME = 0.05, 0.98


@dataclass(frozen=True)
class TabulatedRun:
    """Arms playing one table."""

    request: Request
    table: Tabulated
    seeds: int
    environment: str

    def regret_rows(self) -> Iterator[Row]:
        """Every budget, with the starts of a job and without."""
        for bound in BUDGETS:
            for starts in (True, False):
                yield from self._regrets_at(bound, starts=starts)

    def _regrets_at(self, bound: float, *, starts: bool) -> Iterator[Row]:
        best = self.table.best_within(bound)
        uniform = self._uniform(bound)
        title = f"digits at {bound:.0%}, {'with' if starts else 'without'} starts"
        curves: dict[str, Floats] = {}
        for arm in _ARMS:
            self.request.say(f"{title}: {arm}")
            regrets = np.array(
                [
                    (self._best_of(arm, bound, seed, starts=starts) - best) / (uniform - best)
                    for seed in range(self.seeds)
                ]
            )
            curves[arm] = np.median(regrets, axis=0)
            final = regrets[:, -1]
            good = int((final <= _MOST_REGRET).sum())
            has_bar = arm == "auto" and starts
            yield Row(
                what=f"{title}: regret of {arm}", figure=_finite(float(np.median(final))),
                unit="of uniform's", opponent="uniform", opponent_figure=1.0,
                bar=f"<= {_MOST_REGRET:g} in {self._enough} of {self.seeds} seeds" * has_bar,
                holds=good >= self._enough if has_bar else None, environment=self.environment,
                note=f"{good} of {self.seeds} seeds; optimum {best:.4g}, uniform {uniform:.4g} "
                f"nats; {_EVALUATIONS} evaluations",
            )  # fmt: skip
        name = f"digits-{100 * bound:.0f}-{'starts' if starts else 'bare'}.svg"
        path = self.request.directory / name
        write_curves(path, title, "regret (optimum 0, uniform 1)", curves)

    def front_rows(self) -> Iterator[Row]:
        """The hypervolume over evaluations, all arms in one plot."""
        whole = hypervolume(self.table.latencies, self.table.divergences)
        for starts in (True, False):
            curves = {}
            title = f"digits front, {'with' if starts else 'without'} starts"
            for arm in _FRONT_ARMS:
                self.request.say(f"{title}: {arm}")
                curves[arm] = self._volumes(arm, starts=starts) / whole
                has_bar = arm == "front" and starts
                final = float(curves[arm][-1])
                yield Row(
                    what=f"{title}: hypervolume of {arm}", figure=final, unit="of the whole",
                    bar=f">= {_LEAST_VOLUME:g}" * has_bar,
                    holds=final >= _LEAST_VOLUME if has_bar else None,
                    environment=self.environment,
                    note=f"median of {self.seeds} seeds, {_FRONT_EVALUATIONS} evaluations",
                )  # fmt: skip
            path = self.request.directory / f"front-{'starts' if starts else 'bare'}.svg"
            write_curves(path, title, "hypervolume, of the whole table's", curves)

    @property
    def _enough(self) -> int:
        return max(self.seeds - 1, 1)

    def _best_of(self, arm: str, bound: float, seed: int, *, starts: bool) -> Floats:
        played = play(
            STRATEGIES.load(arm), self.table, bound,
            seed=seed, evaluations=_EVALUATIONS, starts=starts,
        )  # fmt: skip
        return _padded(played.best_within(bound), _EVALUATIONS)

    def _volumes(self, arm: str, *, starts: bool) -> Floats:
        found = []
        for seed in range(self.seeds):
            played = play(
                STRATEGIES.load(arm), self.table, 1.0,
                seed=seed, evaluations=_FRONT_EVALUATIONS, starts=starts, directions=2,
            )  # fmt: skip
            volumes = hypervolumes(played.latencies, played.divergences)
            found.append(_padded(volumes, _FRONT_EVALUATIONS))
        medians: Floats = np.median(found, axis=0)
        return medians

    def _uniform(self, bound: float) -> float:
        context = self.table.context(bound, seed=0)
        point = threshold_point(context, uniform_scores(context))
        if point is None:
            raise ValueError(f"no uniform recipe is inside {bound:.0%}")
        return self.table.divergence(point)


def _padded(curve: Floats, length: int) -> Floats:
    """The last figure again where a strategy ran out of new proposals."""
    return np.append(curve, np.full(length - len(curve), curve[-1]))


def _finite(figure: float) -> float | None:
    return figure if np.isfinite(figure) else None
