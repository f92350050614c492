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
# Quality is judged on rows that no search saw; less than this is not told apart.
_NOISE = 0.02
_SEARCHED_ANEW = ("scratch", "study.journal", "candidates.jsonl", "measurements.jsonl")
_REACH, _CURVE = "reach", "curve"


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

    def curves(self, arm: str, bound: float) -> dict[int, Floats]:
        """Seed -> (trials,) what was best after each, of the searches that are there."""
        found: dict[int, Floats] = {}
        for seed in range(self.seeds):
            name = f"{self.name}/{arm}-{seed}"

            def searched(seed: int = seed) -> PartResult:
                return self._searched(arm, seed, bound, self.trials, f"search-{arm}-{seed}")

            part = self.parts.get(name, searched)
            if part is not None:
                found[seed] = np.array(part.figures[_CURVE])
        return found

    def long_curve(self, bound: float) -> Floats | None:
        """(trials,) of the arm that has many; None while it has not had all."""
        found: PartResult | None = None
        for trials in range(_LEG, _LONG_TRIALS + 1, _LEG):

            def searched(trials: int = trials) -> PartResult:
                return self._searched(_LONG_ARM, 0, bound, trials, f"search-{_LONG_ARM}-long")

            name = f"{self.name}/{_LONG_ARM}-to-{trials}"
            found = self.parts.get(name, searched)
            if found is None:
                self.parts.wait_for(name)
                return None
        return None if found is None else np.array(found.figures[_CURVE])

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
        curve = best_so_far(Ledger(Workspace(output_dir).study), bound, trials)
        return PartResult(figures={_CURVE: tuple(curve.tolist())})

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
    curves = {arm: arena.curves(arm, bound) for arm in ARMS}
    for arm in ARMS[1:]:
        yield from duel_rows(name, arm, curves, seeds, parts.environment)
    if not quick:
        yield from _long_rows(arena, bound, curves["auto"])
    write_curves(
        parts.request.directory / f"{name}-anytime.svg", f"{name} at {bound:.0%} of the baseline",
        "divergence, median of the seeds",
        {arm: np.median(list(own.values()), axis=0) for arm, own in curves.items() if own},
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
    name: str, arm: str, curves: dict[str, dict[int, Floats]], seeds: int, environment: str
) -> Iterator[Row]:
    """`auto` against one arm at the last trial of every seed that both have played."""
    both = sorted(curves["auto"].keys() & curves[arm].keys())
    if not both:
        return
    mine, other = (np.array([curves[a][seed][-1] for seed in both]) for a in ("auto", arm))
    trials = len(curves["auto"][both[0]])
    worse = int((mine > other * (1 + _NOISE)).sum())
    better = int((mine < other * (1 - _NOISE)).sum())
    most = seeds - 1
    has_to_win = arm in ("tpe", "nsga2")
    holds = worse == 0 and (better >= most or not has_to_win)
    yield Row(
        what=f"{name}: divergence of auto after {trials} trials",
        figure=_finite(mine), opponent=arm, opponent_figure=_finite(other),
        ratio=_ratio(mine, other),
        bar="never worse" + f", better in {most}" * has_to_win,
        holds=holds if len(both) == seeds else None, environment=environment,
        note=f"better in {better}, worse in {worse} of {len(both)} seeds, beyond {_NOISE:.0%}"
        + f"; {seeds} are asked for" * (len(both) < seeds),
    )  # fmt: skip


def _long_rows(arena: Arena, bound: float, ours: dict[int, Floats]) -> Iterator[Row]:
    """Is what a generic sampler reaches in many trials there within few?"""
    long_curve = arena.long_curve(bound)
    if long_curve is None or not ours:
        return
    best = np.array([long_curve[-1]])
    reached = np.array([curve[: min(_AUTO_WITHIN, len(curve))][-1] for curve in ours.values()])
    holds = bool(np.median(reached) <= best[0] * (1 + _NOISE))
    yield Row(
        what=f"{arena.name}: divergence of auto after {_AUTO_WITHIN} trials",
        figure=_finite(reached), opponent=f"{_LONG_ARM} after {_LONG_TRIALS}",
        opponent_figure=_finite(best), ratio=_ratio(reached, best), bar="no more",
        holds=holds if len(ours) == arena.seeds else None, environment=arena.parts.environment,
        note=f"median of {len(ours)} seeds",
    )  # fmt: skip


def _ratio(ours: Floats, theirs: Floats) -> float | None:
    """Of the medians; None where one of them is none, or says nothing."""
    mine, other = _finite(ours), _finite(theirs)
    return None if mine is None or other is None else ratio_of(mine, other)


def _finite(figures: Floats) -> float | None:
    """The median over the seeds; None where most of them have none."""
    median = float(np.median(figures))
    return median if np.isfinite(median) else None
