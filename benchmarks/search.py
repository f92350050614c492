"""`search`: what strategies are worth, where every answer is known, and what they cost.

With `--model NAME` (resnet56, minilm, ...): on a real model instead, at equal full evaluations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from autosparse.evaluation import read_environment
from autosparse.pipeline.workspace import empty_directory
from autosparse.search.knapsack import knapsack_points
from autosparse.search.strategies import STRATEGIES
from benchmarks.benchmark import Request
from benchmarks.guarded import guarded_rows
from benchmarks.parts import PartResult, Parts
from benchmarks.planted_tables import PLANTED
from benchmarks.rows import Row
from benchmarks.search_infeasible import infeasible_rows
from benchmarks.search_models import model_rows
from benchmarks.search_overhead import overhead_rows
from benchmarks.search_play import play
from benchmarks.search_tabulated import TabulatedRun
from benchmarks.tabulated_digits import tabulated_digits
from benchmarks.workers import real_rows, simulated_rows

_EVALUATIONS = 100
# A ruin costs several times the best answer; this much is a matter of fine tuning.
_SOLVED = 1.1
_TABLE = "digits/table"


@dataclass(frozen=True)
class _Scale:
    seeds: int
    rows: int
    """Images that divergences of the tabulated space are averaged over."""
    ledger_trials: int
    cases: int


_FULL = _Scale(seeds=5, rows=48, ledger_trials=10_000, cases=20)
_QUICK = _Scale(seeds=2, rows=8, ledger_trials=1_000, cases=6)


class SearchBenchmark:
    """Planted tables, a tabulated space, overhead, verdicts, workers; or real models."""

    summary = "what strategies find in spaces whose answers are known, and what a trial costs"
    in_parts: Literal[True] = True

    def rows(self, request: Request) -> Iterator[Row]:
        """Each part by itself; what goes wrong in one is a row."""
        scale, environment = _QUICK if request.quick else _FULL, read_environment().id
        parts = Parts(request, environment)
        guarded = partial(guarded_rows, request, environment)
        if request.models:
            for name in request.models:
                yield from guarded(name, partial(model_rows, parts, name, scale.seeds))
        else:
            yield from self._known_answers(parts, scale)
        yield from parts.remaining_rows()

    def _known_answers(self, parts: Parts, scale: _Scale) -> Iterator[Row]:
        """Where every answer is known, and no model is needed."""
        environment, directory = parts.environment, parts.request.directory

        def verdicts() -> Iterator[Row]:
            return infeasible_rows(
                empty_directory(directory / "verdicts"), scale.cases, environment
            )

        yield from parts.rows("planted", lambda: planted_rows(scale.seeds, environment))
        overhead = partial(overhead_rows, directory, scale.ledger_trials, environment)
        yield from parts.rows("overhead", overhead)
        yield from parts.rows("verdicts", verdicts)
        for name, rows in (("simulated", simulated_rows), ("real", real_rows)):
            yield from parts.rows(f"workers/{name}", partial(rows, parts.request, environment))
        yield from guarded_rows(
            parts.request, environment, "digits", partial(_digits_rows, parts, scale)
        )


def planted_rows(seeds: int, environment: str) -> Iterator[Row]:
    """How often `auto`, and the additive knapsack by itself, solve each planted table."""
    for name, make in PLANTED.items():
        planted = [make(seed) for seed in range(seeds)]
        auto = 0
        for seed, world in enumerate(planted):
            played = play(
                STRATEGIES.load("auto"), world.table, world.bound,
                seed=seed, evaluations=_EVALUATIONS,
            )  # fmt: skip
            auto += bool(played.best_within(world.bound)[-1] <= _SOLVED * world.best)
        sums = 0
        for seed, world in enumerate(planted):
            answer = knapsack_points(world.table.context(world.bound, seed))[0]
            sums += bool(world.table.divergence(answer) <= _SOLVED * world.best)
        misled = planted[0].misleads_sums
        yield Row(
            what=f"planted: {name}", figure=auto, unit="solved", opponent="additive knapsack",
            opponent_figure=sums, bar=f"{seeds} of {seeds}" + ", the knapsack none" * misled,
            holds=auto == seeds and (sums == 0 or not misled), environment=environment,
            note=f"{seeds} seeds, {_EVALUATIONS} evaluations; solved is within "
            f"{_SOLVED - 1:.0%} of the best of all recipes",
        )  # fmt: skip


def _digits_rows(parts: Parts, scale: _Scale) -> Iterator[Row]:
    table = partial(tabulated_digits, parts.request.directory, scale.rows)

    def evaluated() -> PartResult:
        table()  # every recipe, which takes minutes; its figures stay in the directory
        return PartResult()

    if parts.get(_TABLE, evaluated) is None:
        parts.wait_for(_TABLE)
        return
    run = TabulatedRun(parts, table(), scale.seeds)
    yield from run.regret_rows()
    yield from run.front_rows()
