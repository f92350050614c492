"""One cell: a model at a budget, delivered by the product and held against both opponents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

import autosparse
from autosparse.artifacts.bundle import delivered_model
from autosparse.evaluation import Comparison, LoweredModel, Measurement, Verdict
from autosparse.evaluation.metrics import BUILT_IN, Outputs
from autosparse.levels import Recipe
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.stopwatch import BASELINE_LABEL
from autosparse.pipeline.verification import VERIFY_TIMING
from benchmarks import greedy_mix, toolkit_int8
from benchmarks.greedy_mix import GreedyLadder, Step
from benchmarks.job_models import Scale
from benchmarks.model_files import ModelFiles
from benchmarks.opened_job import OpenedJob
from benchmarks.patience import measure_beside_baseline
from benchmarks.product_jobs import BaseJob, solve
from benchmarks.rows import Row, ratio_of
from benchmarks.verdicts import Difference, Floats, Outcome, paired_difference

_OURS, _MIX, _INT8 = "ours", "mix", "int8"
_UNITS = {"kl": "nats (KL)", "relative_error": "relative error"}
_NOT_WORSE = "not worse beyond the interval"
# A file this much faster than its opponent was asked for something else than its quality.
_MUCH_FASTER = 0.95


@dataclass(frozen=True)
class Arena:
    """One model with its opponents, and the rows that nobody has seen."""

    files: ModelFiles
    scale: Scale
    base: BaseJob
    opened: OpenedJob
    ladder: GreedyLadder
    int8: LoweredModel
    say: Callable[[str], None]

    @cached_property
    def dense_outputs(self) -> Outputs:
        """The model's own answers to the held-out rows."""
        return self.answer(self.opened.job.original)

    def answer(self, model: LoweredModel) -> Outputs:
        """A file's answers to the held-out rows."""
        return self.opened.job.answer(model, self.files.held_out)

    def divergence(self, outputs: Outputs) -> Floats:
        """Divergence from the dense model, row by row."""
        return BUILT_IN[self.files.metric].score(outputs, self.dense_outputs, None)


@dataclass(frozen=True)
class Cell:
    """What one cell came to."""

    rows: tuple[Row, ...]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Opponent -> how it ended for us."""
    verifies: bool | None = None
    """Whether the bundle held when it was verified again; None where none was asked for."""


def run_cell(arena: Arena, budget: str, title: str) -> Cell:
    """Solve one budget and compare what was delivered.

    Args:
        arena: the model and its opponents.
        budget: as a share of the baseline, `80%`.
        title: how rows name the cell.
    """
    result = solve(arena.files, arena.scale, arena.base, budget, arena.say)
    bound = result.manifest.contract.latency_ratio
    again = autosparse.verify(result.bundle)
    verifies = result.verdict is Verdict.MET and again.verdict is Verdict.MET
    delivered = _delivered(result)
    step = arena.ladder.best_within(arena.opened, bound)
    files = {_OURS: delivered[1], _INT8: arena.int8}
    if step is not None:
        files[_MIX] = step.model
    timed = measure_beside_baseline(arena.opened.job, files, VERIFY_TIMING, fresh=True)
    outputs = {label: arena.answer(model) for label, model in files.items()}
    duel = _Duel(arena, title, timed, outputs)
    rows = [_delivery_row(title, result, again.verified.comparison, verifies, bound)]
    outcomes: dict[str, Outcome] = {}
    row, outcomes[greedy_mix.NAME] = duel.against_mix(
        step, delivered[0], inside=result.verdict is Verdict.MET
    )
    rows.append(row)
    if duel.is_about_as_fast_as(_INT8):
        row, outcomes[toolkit_int8.NAME] = duel.against(_INT8, toolkit_int8.NAME)
        rows.append(row)
    rows.extend(duel.top1_rows())
    if title.endswith("fastest"):
        rows.append(duel.fastest_row())
    return Cell(tuple(rows), outcomes, verifies)


def unreachable_cell(arena: Arena, budget: str, title: str) -> Cell:
    """A budget that the early verdict calls infeasible: is it, for the opponents too?"""
    bound = float(budget.rstrip("%")) / 100
    fastest = min((step.ratio for step in arena.ladder.steps), default=float("inf"))
    beaten = fastest <= bound
    row = Row(
        what=f"{title}: early verdict, fastest recipe", figure=arena.base.fastest_ratio,
        unit="of the baseline", opponent=greedy_mix.NAME, opponent_figure=fastest,
        ratio=ratio_of(arena.base.fastest_ratio, fastest), bar="the opponent misses it too",
        holds=not beaten, environment=arena.opened.environment,
        note=f"the budget {budget} is called infeasible",
    )  # fmt: skip
    return Cell((row,), {greedy_mix.NAME: Outcome.ONLY_THEIRS} if beaten else {})


@dataclass(frozen=True)
class _Duel:
    """Everything measured of one cell, read row by row."""

    arena: Arena
    title: str
    timed: dict[str, Measurement]
    outputs: dict[str, Outputs]

    def against_mix(
        self, step: Step | None, recipe: Recipe, *, inside: bool
    ) -> tuple[Row, Outcome]:
        """Divergence against the greedy mix at the same budget."""
        if step is None:
            return self._alone(Outcome.ONLY_OURS if inside else Outcome.TIE)
        if not inside:
            return self._alone(Outcome.ONLY_THEIRS)
        row, outcome = self.against(_MIX, greedy_mix.describe(self.arena.ladder, step))
        if outcome.is_loss:
            note = f"{row.note}; {layer_gap(recipe, step)}"
            row = row.model_copy(update={"note": note})
        return row, outcome

    def against(self, label: str, opponent: str) -> tuple[Row, Outcome]:
        """Divergence on the held-out rows, in pairs."""
        ours = self.arena.divergence(self.outputs[_OURS])
        theirs = self.arena.divergence(self.outputs[label])
        difference = paired_difference(ours, theirs)
        outcome = difference.outcome
        row = Row(
            what=f"{self.title}: divergence", figure=float(ours.mean()),
            unit=_UNITS[self.arena.files.metric], opponent=opponent,
            opponent_figure=float(theirs.mean()),
            ratio=ratio_of(float(ours.mean()), float(theirs.mean())), bar=_NOT_WORSE,
            holds=not outcome.is_loss, environment=self._environment,
            note=f"{outcome.value}: difference {difference} over {len(ours)} rows; latency "
            f"{self._ratio(_OURS):.3f} against {self._ratio(label):.3f} of the baseline",
        )  # fmt: skip
        return row, outcome

    def is_about_as_fast_as(self, label: str) -> bool:
        """Whether the two can be compared by quality alone.

        Ours is not slower beyond the interval of their ratio, and not so much faster that it
        answers another question.
        """
        pair = self._between(label)
        return pair.ratio_interval("p50").low <= 1.0 and pair.ratio("p50") >= _MUCH_FASTER

    def fastest_row(self) -> Row:
        """How fast we get, against INT8 everywhere."""
        pair = self._between(_INT8)
        interval = pair.ratio_interval("p50")
        return Row(
            what=f"{self.title}: latency", figure=1e3 * pair.candidate.percentile_seconds("p50"),
            unit="ms", opponent=toolkit_int8.NAME,
            opponent_figure=1e3 * pair.baseline.percentile_seconds("p50"),
            ratio=pair.ratio("p50"), bar="not slower beyond the interval",
            holds=interval.low <= 1.0, environment=self._environment,
            note=f"ratio [{interval.low:.3f}, {interval.high:.3f}]",
        )  # fmt: skip

    def top1_rows(self) -> list[Row]:
        """Top-1 on the held-out rows, where there are labels."""
        labels = self.arena.files.held_out.labels
        if labels is None:
            return []
        classes = {name: out.first.argmax(axis=1) for name, out in self.outputs.items()}
        dense = self.arena.dense_outputs.first.argmax(axis=1)
        right = {name: np.asarray(c == labels, np.float64) for name, c in classes.items()}
        was_right = np.asarray(dense == labels, np.float64)
        label = _MIX if _MIX in right else _INT8
        opponent = greedy_mix.NAME if label == _MIX else toolkit_int8.NAME
        drop: Difference = paired_difference(was_right, right[_OURS])
        agreement = ", ".join(f"{n} {float((c == dense).mean()):.2%}" for n, c in classes.items())
        return [
            Row(
                what=f"{self.title}: top-1 drop", figure=100 * drop.mean, unit="points",
                opponent=opponent,
                opponent_figure=100 * paired_difference(was_right, right[label]).mean,
                environment=self._environment,
                note=f"drop {100 * drop.mean:+.2f} [{100 * drop.low:+.2f}, {100 * drop.high:+.2f}] "
                f"of {was_right.mean():.2%}; agreement with the dense model: {agreement}",
            )
        ]  # fmt: skip

    @property
    def _environment(self) -> str:
        return self.timed[_OURS].environment

    def _ratio(self, label: str) -> float:
        pair = Comparison(baseline=self.timed[BASELINE_LABEL], candidate=self.timed[label])
        return pair.ratio("p50")

    def _between(self, label: str) -> Comparison:
        return Comparison(baseline=self.timed[label], candidate=self.timed[_OURS])

    def _alone(self, outcome: Outcome) -> tuple[Row, Outcome]:
        ours = float(self.arena.divergence(self.outputs[_OURS]).mean())
        told = {
            Outcome.ONLY_OURS: "no step of the opponent is inside the budget",
            Outcome.ONLY_THEIRS: "ours missed the budget, and the opponent has a step inside it",
        }
        row = Row(
            what=f"{self.title}: divergence", figure=ours,
            unit=_UNITS[self.arena.files.metric], opponent=greedy_mix.NAME, bar=_NOT_WORSE,
            holds=not outcome.is_loss, environment=self._environment,
            note=told.get(outcome, "neither has a file inside the budget"),
        )  # fmt: skip
        return row, outcome


def _delivered(result: Result) -> tuple[Recipe, LoweredModel]:
    bundle = Path(result.bundle)
    recipe = Recipe.load(bundle / "recipe.yaml")
    return recipe, delivered_model(bundle, result.manifest)


def _delivery_row(
    title: str, result: Result, comparison: Comparison, verifies: bool, bound: float
) -> Row:
    search, percentile = result.manifest.search, result.manifest.contract.percentile
    interval = comparison.ratio_interval(percentile)
    return Row(
        what=f"{title}: delivered latency, verified again",
        figure=1e3 * comparison.candidate.percentile_seconds(percentile), unit="ms",
        opponent="the model as it came",
        opponent_figure=1e3 * comparison.baseline.percentile_seconds(percentile),
        ratio=comparison.ratio(percentile), bar=f"ratio <= {bound:.3g}, bundle verifies",
        holds=verifies, environment=comparison.candidate.environment,
        note=f"ratio [{interval.low:.3f}, {interval.high:.3f}]; the job says {result.verdict} at "
        f"{result.manifest.latency.ratio:.3f}; {search.trials} trials of {search.candidates} "
        f"candidates in {search.seconds:.0f} s",
    )  # fmt: skip


def layer_gap(recipe: Recipe, step: Step) -> str:
    """Which layers the two sides treat differently."""
    floating = {name for name, level in recipe.levels.items() if level.is_baseline}
    reverted = set(step.reverted)
    integer = {name for name in recipe.levels if name not in floating}
    mine = ", ".join(sorted(floating - reverted)) or "none"
    theirs = ", ".join(sorted(reverted & integer)) or "none"
    return f"fp32 only in ours: {mine}; fp32 only in the mix: {theirs}"
