"""One cell: a model at a budget, delivered by the product and held against both opponents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import autosparse
from autosparse.artifacts.bundle import delivered_model
from autosparse.evaluation import Comparison, LoweredModel, Verdict
from autosparse.evaluation.metrics import Outputs
from autosparse.levels import Recipe
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.verification import VERIFY_TIMING
from benchmarks import greedy_mix, toolkit_int8
from benchmarks.greedy_mix import GreedyLadder, Step
from benchmarks.job_duel import INT8, MIX, OURS, Duel
from benchmarks.job_models import Scale
from benchmarks.model_files import ModelFiles
from benchmarks.opened_job import OpenedJob
from benchmarks.parts import PartResult
from benchmarks.patience import measure_beside_baseline
from benchmarks.product_jobs import solve
from benchmarks.rows import Row, ratio_of
from benchmarks.verdicts import Outcome

_DIVERGENCE, _DROP, _VERIFIES = "divergence", "drop", "verifies"


@dataclass(frozen=True)
class Opponents:
    """What every cell of a model is held against."""

    ladder: GreedyLadder
    int8: LoweredModel


@dataclass(frozen=True)
class Arena:
    """One model with its opponents, and the rows that nobody has seen."""

    files: ModelFiles
    scale: Scale
    base: Path
    """Output directory of the job that has the whole level table."""
    reach: float
    """Latency of the fastest recipe that it measured, over the baseline's."""
    opened: OpenedJob
    opponents: Opponents
    say: Callable[[str], None]

    @cached_property
    def dense_outputs(self) -> Outputs:
        """The model's own answers to the held-out rows."""
        return self.answer(self.opened.job.original)

    def answer(self, model: LoweredModel) -> Outputs:
        """A file's answers to the held-out rows."""
        return self.opened.job.answer(model, self.files.held_out)


@dataclass(frozen=True)
class Cell:
    """What one cell came to."""

    rows: tuple[Row, ...]
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """Opponent -> how it ended for us, by the divergence."""
    drops: Mapping[str, Outcome] = field(default_factory=dict)
    """Opponent -> how it ended for us, by the drop of the metric."""
    verifies: bool | None = None
    """Whether the bundle held when it was verified again; None where none was asked for."""

    def as_part(self) -> PartResult:
        """As it is kept for later runs."""
        words = {f"{_DIVERGENCE}/{name}": outcome.value for name, outcome in self.outcomes.items()}
        words |= {f"{_DROP}/{name}": outcome.value for name, outcome in self.drops.items()}
        if self.verifies is not None:
            words[_VERIFIES] = str(self.verifies)
        return PartResult(rows=self.rows, words=words)

    @classmethod
    def of_part(cls, part: PartResult) -> Cell:
        """As `as_part` wrote it."""
        found: dict[str, dict[str, Outcome]] = {_DIVERGENCE: {}, _DROP: {}}
        for key, word in part.words.items():
            kind, _, opponent = key.partition("/")
            if kind in found:
                found[kind][opponent] = Outcome(word)
        verifies = part.words.get(_VERIFIES)
        return cls(
            part.rows, found[_DIVERGENCE], found[_DROP],
            None if verifies is None else verifies == str(True),
        )  # fmt: skip


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
    recipe, delivered = _delivered(result)
    ladder = arena.opponents.ladder
    step = ladder.best_within(arena.opened, bound)
    files = {OURS: delivered, INT8: arena.opponents.int8}
    if step is not None:
        files[MIX] = step.model
    duel = Duel(
        title, arena.files,
        timed=measure_beside_baseline(arena.opened.job, files, VERIFY_TIMING, fresh=True),
        outputs={label: arena.answer(model) for label, model in files.items()},
        dense=arena.dense_outputs,
    )  # fmt: skip
    mix = judge_mix(duel, ladder, step, recipe, inside=result.verdict is Verdict.MET)
    rest = judge_int8(duel)
    alone = () if mix.drops or rest.drops or not duel.has_metric else (duel.drop_alone(),)
    fastest = (duel.fastest_row(),) if title.endswith("fastest") else ()
    delivery = _delivery_row(title, result, again.verified.comparison, verifies, bound)
    return Cell(
        rows=(delivery, *mix.rows, *rest.rows, *alone, *fastest),
        outcomes={**mix.outcomes, **rest.outcomes}, drops={**mix.drops, **rest.drops},
        verifies=verifies,
    )  # fmt: skip


def unreachable_cell(arena: Arena, budget: str, title: str) -> Cell:
    """A budget that the early verdict calls infeasible: is it, for the opponents too?"""
    bound = share_of(budget)
    steps = arena.opponents.ladder.steps
    fastest = min((step.ratio for step in steps), default=float("inf"))
    beaten = fastest <= bound
    row = Row(
        what=f"{title}: early verdict, fastest recipe", figure=arena.reach,
        unit="of the baseline", opponent=greedy_mix.NAME, opponent_figure=fastest,
        ratio=ratio_of(arena.reach, fastest), bar="the opponent misses it too",
        holds=not beaten, environment=arena.opened.environment,
        note=f"the budget {budget} is called infeasible",
    )  # fmt: skip
    return Cell((row,), {greedy_mix.NAME: Outcome.ONLY_THEIRS} if beaten else {})


def judge_mix(
    duel: Duel, ladder: GreedyLadder, step: Step | None, recipe: Recipe, *, inside: bool
) -> Cell:
    """Against the greedy mix at the same budget.

    Args:
        duel: what was measured.
        ladder: that the step is of.
        step: the mix; None where none is inside the budget.
        recipe: what we delivered.
        inside: whether we met the budget.
    """
    if step is None or not inside:
        without_ours = Outcome.TIE if step is None else Outcome.ONLY_THEIRS
        outcome = Outcome.ONLY_OURS if inside else without_ours
        return Cell((duel.divergence_alone(outcome),), {greedy_mix.NAME: outcome})
    cell = _judged(duel, MIX, greedy_mix.NAME, greedy_mix.describe(ladder, step))
    if not cell.outcomes[greedy_mix.NAME].is_loss:
        return cell
    lost, *others = cell.rows
    note = f"{lost.note}; {layer_gap(recipe, step)}"
    return Cell((lost.model_copy(update={"note": note}), *others), cell.outcomes, cell.drops)


def judge_int8(duel: Duel) -> Cell:
    """Against INT8 everywhere, where the two are about as fast; nothing elsewhere."""
    if not duel.is_about_as_fast_as(INT8):
        return Cell(())
    return _judged(duel, INT8, toolkit_int8.NAME, toolkit_int8.NAME)


def _judged(duel: Duel, label: str, opponent: str, described: str) -> Cell:
    """By the divergence, and by the metric where there is one."""
    row, outcome = duel.divergence_against(label, described)
    if not duel.has_metric:
        return Cell((row,), {opponent: outcome})
    drop_row, drop = duel.drop_against(label, described)
    return Cell((row, drop_row), {opponent: outcome}, {opponent: drop})


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


def share_of(budget: str) -> float:
    """`80%` as 0.8."""
    return float(budget.rstrip("%")) / 100
