"""Strategies on a real model, at equal full evaluations, all from one job's level table.

Every arm and seed is a job of its own in a copy of the base job's directory: the table, the trained
predictor's samples and the baseline are not made again, the search is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

import autosparse
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.workspace import Workspace
from benchmarks.benchmark import Request
from benchmarks.curves import write_curves
from benchmarks.job_models import FULL, MODELS, QUICK, Scale
from benchmarks.model_files import ModelFiles, ModelRequest, UnavailableError
from benchmarks.opened_job import opened_job
from benchmarks.product_jobs import BaseJob, Spoken, job_fields, run_base_job
from benchmarks.rows import Row, ratio_of
from benchmarks.tabulated import Floats

_ARMS = ("auto", "knapsack", "tpe", "nsga2", "random")
_BUDGET = 0.6
_UNLIMITED_SECONDS = 1e6
_TRIALS, _QUICK_TRIALS = 40, 12
_LONG_ARM, _LONG_TRIALS, _AUTO_WITHIN = "tpe", 300, 30
# Quality is judged on rows that no search saw; less than this is not told apart.
_NOISE = 0.02
_SEARCHED_ANEW = ("scratch", "study.journal", "candidates.jsonl", "measurements.jsonl")


@dataclass(frozen=True)
class _Arena:
    files: ModelFiles
    base: BaseJob
    scale: Scale
    request: Request
    bound: float

    def anytime(self, arm: str, seed: int, trials: int) -> Floats:
        """(trials,): least divergence inside the budget after each measured trial."""
        output_dir = self.base.output_dir.with_name(f"search-{arm}-{seed}-{trials}")
        ignored = shutil.ignore_patterns(*_SEARCHED_ANEW)
        shutil.copytree(self.base.output_dir, output_dir, ignore=ignored)
        workspace = Workspace(output_dir)
        # a job may not change its seed; this one is a new job on the other's table
        stored = JobConfig.model_validate_json(workspace.config.read_bytes())
        seeded = stored.model_copy(update={"seed": seed})
        workspace.config.write_text(seeded.model_dump_json(), encoding="utf-8")
        scale, budget = replace(self.scale, trials=trials), f"{100 * self.bound:.2f}%"
        fields = job_fields(self.files, scale, budget, output_dir, _UNLIMITED_SECONDS)
        autosparse.optimize(
            self.files.onnx, resume=True, strategy=arm, seed=seed,
            progress=Spoken(f"{arm}, seed {seed}", self.request.say), **fields,
        )  # fmt: skip
        found = [
            record.evidence.divergence if record.evidence.latency_ratio <= self.bound else np.inf
            for record in Ledger(workspace.study).records
        ]
        curve: Floats = np.minimum.accumulate(np.array(found))
        return np.append(curve, np.full(max(trials - len(curve), 0), curve[-1]))[:trials]


def model_rows(request: Request, name: str, seeds: int) -> Iterator[Row]:
    """Final divergence of every arm against that of `auto`, seed by seed, and the curves."""
    if name not in MODELS:
        raise UnavailableError(f"no such model; known: {', '.join(MODELS)}")
    scale, trials = (QUICK, _QUICK_TRIALS) if request.quick else (FULL, _TRIALS)
    directory = request.directory / name
    directory.mkdir(parents=True)
    sizes = scale.sizes or MODELS[name].sizes
    files = MODELS[name].build(ModelRequest(request.assets, directory / "given", sizes))
    base = run_base_job(files, scale, directory)
    with opened_job(base.output_dir) as opened:
        environment = opened.environment
    # a budget that cannot be met compares nothing
    bound = max(_BUDGET, 1.05 * base.fastest_ratio)
    arena = _Arena(files, base, scale, request, bound)
    curves = {
        arm: np.array([arena.anytime(arm, seed, trials) for seed in range(seeds)]) for arm in _ARMS
    }
    for arm in _ARMS[1:]:
        yield _duel_row(name, arm, curves["auto"], curves[arm], environment)
    if not request.quick:
        yield _long_row(arena, name, curves["auto"], environment)
    write_curves(
        request.directory / f"{name}-anytime.svg", f"{name} at {bound:.0%} of the baseline",
        "divergence, median of the seeds", {a: np.median(c, axis=0) for a, c in curves.items()},
        kind="log",
    )  # fmt: skip


def _duel_row(name: str, arm: str, ours: Floats, theirs: Floats, environment: str) -> Row:
    """`auto` against one arm at the last trial of every seed."""
    mine, other = ours[:, -1], theirs[:, -1]
    worse = int((mine > other * (1 + _NOISE)).sum())
    better = int((mine < other * (1 - _NOISE)).sum())
    most = len(mine) - 1
    has_to_win = arm in ("tpe", "nsga2")
    holds = worse == 0 and (better >= most or not has_to_win)
    return Row(
        what=f"{name}: divergence of auto after {ours.shape[1]} trials",
        figure=_finite(mine), opponent=arm, opponent_figure=_finite(other),
        ratio=ratio_of(float(np.median(mine)), float(np.median(other))),
        bar="never worse" + f", better in {most}" * has_to_win, holds=holds,
        environment=environment,
        note=f"better in {better}, worse in {worse} of {len(mine)} seeds, beyond {_NOISE:.0%}",
    )  # fmt: skip


def _long_row(arena: _Arena, name: str, ours: Floats, environment: str) -> Row:
    """Is what a generic sampler reaches in many trials there within few?"""
    best = float(arena.anytime(_LONG_ARM, 0, _LONG_TRIALS)[-1])
    reached = ours[:, min(_AUTO_WITHIN, ours.shape[1]) - 1]
    return Row(
        what=f"{name}: divergence of auto after {_AUTO_WITHIN} trials", figure=_finite(reached),
        opponent=f"{_LONG_ARM} after {_LONG_TRIALS}", opponent_figure=best,
        ratio=ratio_of(float(np.median(reached)), best), bar="no more",
        holds=bool(np.median(reached) <= best * (1 + _NOISE)), environment=environment,
    )  # fmt: skip


def _finite(figures: Floats) -> float | None:
    """The median over the seeds; None where most of them have none."""
    median = float(np.median(figures))
    return median if np.isfinite(median) else None
