"""Strategies on a real model, at equal full evaluations, all from one job's level table.

Every arm and seed is a job of its own in a copy of the base job's directory: the table, the trained
predictor's samples and the baseline are not made again, the search is. Each is a part of the run,
and so is what the base job gets done in half an hour; one that was killed is resumed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import autosparse
from autosparse.evaluation.told_apart import is_surely_larger
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.workspace import Workspace
from benchmarks.curves import write_curves
from benchmarks.job_models import FULL, MODELS, QUICK, Scale
from benchmarks.model_files import ModelFiles, ModelRequest, UnavailableError, made_once
from benchmarks.parts import PartResult, Parts
from benchmarks.product_jobs import (
    BASE,
    Spoken,
    build_table,
    find_reach,
    job_fields,
    reach_of,
)
from benchmarks.rows import Row, ratio_of
from benchmarks.tabulated import Floats

ARMS = ("auto", "knapsack", "tpe", "nsga2", "random")
_BUDGET = 0.6
_UNLIMITED_SECONDS = 1e6
_TRIALS, _QUICK_TRIALS = 40, 12
_LONG_ARM, _LONG_TRIALS, _AUTO_WITHIN = "tpe", 300, 30
# So many trials of the long arm are a part.
_LEG = 60
# One part: what the base job has done by then is kept, and it goes on in the next run.
_MOST_SECONDS = 1700.0
_SEARCHED_ANEW = ("scratch", "study.journal", "candidates.jsonl", "measurements.jsonl")
_REACH, _CURVE, _PARTS, _EARLY_PARTS = "reach", "curve", "parts", "early parts"
# The seed decides which rows select: only searches with the same one are told apart by them.
_LONG_SEED = 0


@dataclass(frozen=True)
class Best:
    """The best trial inside the budget, by the rows that select: all of them, for every arm.

    Searches choose by these rows, too, so that the figure flatters each of them alike. Whether two
    differ is judged by pairs of their parts, and not by a share of either.
    """

    divergence: float
    """Mean over the rows; infinite where no trial was inside."""
    parts: tuple[float, ...] = ()
    """Its means over parts of the rows; none where no trial was inside."""

    def is_worse_than(self, other: Best) -> bool:
        """Beyond the interval; where there is none, at all."""
        sure = is_surely_larger(self.parts, other.parts)
        return self.divergence > other.divergence if sure is None else sure


@dataclass(frozen=True)
class Searched:
    """What one search found."""

    curve: Floats
    """(trials,): the least divergence inside the budget after each."""
    parts: tuple[float, ...] = ()
    """Of the best after all trials."""
    early_parts: tuple[float, ...] = ()
    """Of the best after as few as the long arm is held against."""

    @classmethod
    def of(cls, ledger: Ledger, bound: float, trials: int) -> Searched:
        """What the first trials of a ledger came to."""
        parts, early = (best_parts(ledger, bound, n) for n in (trials, _AUTO_WITHIN))
        return cls(best_so_far(ledger, bound, trials), parts, early)

    @classmethod
    def of_part(cls, part: PartResult) -> Searched:
        """As `as_part` wrote it; an earlier version kept no parts."""
        parts, early = (tuple(part.figures.get(name, ())) for name in (_PARTS, _EARLY_PARTS))
        return cls(np.array(part.figures[_CURVE]), parts, early)

    def as_part(self) -> PartResult:
        """As it is kept for later runs."""
        return PartResult(
            figures={
                _CURVE: tuple(self.curve.tolist()), _PARTS: self.parts,
                _EARLY_PARTS: self.early_parts,
            }
        )  # fmt: skip

    @property
    def best(self) -> Best:
        """After all trials."""
        return Best(float(self.curve[-1]), self.parts)

    @property
    def early(self) -> Best:
        """After as few as the long arm is held against."""
        return Best(float(self.curve[: min(_AUTO_WITHIN, len(self.curve))][-1]), self.early_parts)


@dataclass(frozen=True)
class Arena:
    """One model, its base job, and the searches in copies of it."""

    name: str
    parts: Parts
    seeds: int
    files: ModelFiles
    scale: Scale
    trials: int
    """Of every search."""

    @property
    def directory(self) -> Path:
        """Where the jobs lie."""
        return self.parts.request.directory / self.name

    def base(self) -> PartResult:
        """How fast the model gets; the job that found out has the whole level table then.

        Raises:
            RuntimeError: the job failed.
            Unfinished: it goes on in the next run.
        """
        output_dir = self.directory / BASE
        seconds = _MOST_SECONDS
        if not Workspace(output_dir).bundle.is_dir():
            seconds -= find_reach(self.files, self.scale, output_dir, seconds).seconds
        build_table(self.files, self.scale, output_dir, seconds)
        return PartResult(figures={_REACH: (reach_of(output_dir),)})

    def searches(self, arm: str, bound: float) -> dict[int, Searched]:
        """Seed -> what was found, of the searches that are there."""
        found: dict[int, Searched] = {}
        for seed in range(self.seeds):
            name = f"{self.name}/{arm}-{seed}"

            def searched(seed: int = seed) -> PartResult:
                return self._searched(arm, seed, bound, self.trials, f"search-{arm}-{seed}")

            part = self.parts.get(name, searched)
            if part is not None:
                found[seed] = Searched.of_part(part)
        return found

    def long_search(self, bound: float) -> Searched | None:
        """Of the arm that has many trials; None while it has not had all."""
        found: PartResult | None = None
        for trials in range(_LEG, _LONG_TRIALS + 1, _LEG):

            def searched(trials: int = trials) -> PartResult:
                directory = f"search-{_LONG_ARM}-long"
                return self._searched(_LONG_ARM, _LONG_SEED, bound, trials, directory)

            name = f"{self.name}/{_LONG_ARM}-to-{trials}"
            found = self.parts.get(name, searched)
            if found is None:
                self.parts.wait_for(name)
                return None
        return None if found is None else Searched.of_part(found)

    def _searched(
        self, arm: str, seed: int, bound: float, trials: int, directory: str
    ) -> PartResult:
        """A search up to so many trials; one that was begun before goes on."""
        output_dir = self.directory / directory
        if not output_dir.exists():
            self._copy_base(output_dir, seed)
        fields = job_fields(
            self.files, replace(self.scale, trials=trials), f"{100 * bound:.2f}%", output_dir,
            _UNLIMITED_SECONDS,
        )  # fmt: skip
        progress = Spoken(f"{arm}, seed {seed}", self.parts.request.say)
        autosparse.optimize(
            self.files.onnx, resume=True, strategy=arm, seed=seed, progress=progress, **fields
        )
        return Searched.of(Ledger(Workspace(output_dir).study), bound, trials).as_part()

    def _copy_base(self, output_dir: Path, seed: int) -> None:
        """The base job without its search, as a job with another seed; whole or not at all."""
        partial = output_dir.with_name(output_dir.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        ignored = shutil.ignore_patterns(*_SEARCHED_ANEW)
        shutil.copytree(self.directory / BASE, partial, ignore=ignored)
        config = Workspace(partial).config
        # a job may not change its seed; this one is a new job on the other's table
        stored = JobConfig.model_validate_json(config.read_bytes())
        seeded = stored.model_copy(update={"seed": seed})
        config.write_text(seeded.model_dump_json(), encoding="utf-8")
        partial.rename(output_dir)


def best_so_far(ledger: Ledger, bound: float, trials: int) -> Floats:
    """(trials,): least divergence inside the budget after each measured trial, in their order.

    A search that ended before stays where it was; infinite where nothing was inside yet.
    """
    found = [
        record.evidence.divergence if record.evidence.latency_ratio <= bound else np.inf
        for record in ledger.records[:trials]
    ]
    curve: Floats = np.minimum.accumulate(np.array(found or [np.inf]))
    return np.append(curve, np.full(trials - len(curve), curve[-1]))


def best_parts(ledger: Ledger, bound: float, trials: int) -> tuple[float, ...]:
    """Of the least divergence inside the budget among the first trials, its parts."""
    evidence = [record.evidence for record in ledger.records[:trials]]
    inside = [e for e in evidence if e.latency_ratio <= bound]
    return min(inside, key=lambda e: e.divergence).divergence_parts if inside else ()


def model_rows(parts: Parts, name: str, seeds: int) -> Iterator[Row]:
    """Final divergence of every arm against that of `auto`, seed by seed, and the curves."""
    if name not in MODELS:
        raise UnavailableError(f"no such model; known: {', '.join(MODELS)}")
    quick = parts.request.quick
    scale, trials = (QUICK, _QUICK_TRIALS) if quick else (FULL, _TRIALS)
    files = _files(parts, name, scale)
    arena = Arena(name, parts, seeds, files, scale, trials)
    base = parts.get(f"{name}/base", arena.base)
    if base is None:
        parts.wait_for(f"{name}/base")
        return
    # a budget that cannot be met compares nothing
    bound = max(_BUDGET, 1.05 * base.figures[_REACH][0])
    found = {arm: arena.searches(arm, bound) for arm in ARMS}
    for arm in ARMS[1:]:
        yield from duel_rows(name, arm, found, seeds, parts.environment)
    if not quick:
        yield from _long_rows(arena, bound, found["auto"])
    write_curves(
        parts.request.directory / f"{name}-anytime.svg", f"{name} at {bound:.0%} of the baseline",
        "divergence, median of the seeds",
        {
            arm: np.median([search.curve for search in own.values()], axis=0)
            for arm, own in found.items()
            if own
        },
        kind="log",
    )  # fmt: skip


def _files(parts: Parts, name: str, scale: Scale) -> ModelFiles:
    request = parts.request

    def build(directory: Path) -> ModelFiles:
        request.say(f"{name}: model and data")
        sizes = scale.sizes or MODELS[name].sizes
        return MODELS[name].build(ModelRequest(request.assets, directory, sizes))

    return made_once(request.directory / name / "given", build)


def duel_rows(
    name: str, arm: str, found: dict[str, dict[int, Searched]], seeds: int, environment: str
) -> Iterator[Row]:
    """`auto` against one arm at the last trial of every seed that both have played."""
    both = sorted(found["auto"].keys() & found[arm].keys())
    if not both:
        return
    pairs = [(found["auto"][seed].best, found[arm][seed].best) for seed in both]
    mine, other = np.array([(ours.divergence, theirs.divergence) for ours, theirs in pairs]).T
    trials = len(found["auto"][both[0]].curve)
    worse = sum(ours.is_worse_than(theirs) for ours, theirs in pairs)
    better = sum(theirs.is_worse_than(ours) for ours, theirs in pairs)
    most = seeds - 1
    has_to_win = arm in ("tpe", "nsga2")
    holds = worse == 0 and (better >= most or not has_to_win)
    yield Row(
        what=f"{name}: divergence of auto after {trials} trials",
        figure=_finite(mine), opponent=arm, opponent_figure=_finite(other),
        ratio=_ratio(mine, other),
        bar="never worse beyond the interval" + f", better in {most}" * has_to_win,
        holds=holds if len(both) == seeds else None, environment=environment,
        note=f"better in {better}, worse in {worse} of {len(both)} seeds, beyond the 95 % interval "
        "of pairs of parts of the rows that select"
        + f"; {seeds} are asked for" * (len(both) < seeds),
    )  # fmt: skip


def _long_rows(arena: Arena, bound: float, ours: dict[int, Searched]) -> Iterator[Row]:
    found = arena.long_search(bound)
    if found is not None and ours:
        yield long_row(arena.name, found, ours, arena.seeds, arena.parts.environment)


def long_row(
    name: str, found: Searched, ours: dict[int, Searched], seeds: int, environment: str
) -> Row:
    """Is what a generic sampler reaches in many trials there within few?"""
    best = np.array([found.best.divergence])
    reached = np.array([search.early.divergence for search in ours.values()])
    holds = None
    if len(ours) == seeds:
        holds = not ours[_LONG_SEED].early.is_worse_than(found.best)
    return Row(
        what=f"{name}: divergence of auto after {_AUTO_WITHIN} trials",
        figure=_finite(reached), opponent=f"{_LONG_ARM} after {_LONG_TRIALS}",
        opponent_figure=_finite(best), ratio=_ratio(reached, best),
        bar="no more beyond the interval", holds=holds, environment=environment,
        note=f"median of {len(ours)} seeds; the interval is that of seed {_LONG_SEED}, whose rows "
        "both have",
    )  # fmt: skip


def _ratio(ours: Floats, theirs: Floats) -> float | None:
    """Of the medians; None where one of them is none, or says nothing."""
    mine, other = _finite(ours), _finite(theirs)
    return None if mine is None or other is None else ratio_of(mine, other)


def _finite(figures: Floats) -> float | None:
    """The median over the seeds; None where most of them have none."""
    median = float(np.median(figures))
    return median if np.isfinite(median) else None
