"""Run the product: from Python as a user would, or as a command whose memory is sampled."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import autosparse
from autosparse.artifacts.manifest import read_manifest
from autosparse.evaluation import Verdict
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.workspace import Workspace
from benchmarks.job_models import Scale
from benchmarks.memory import SampledRun, run_sampled
from benchmarks.model_files import ModelFiles
from benchmarks.parts import Unfinished

# Wider than any divergence: the budget decides, not the quality that may be lost.
_ANY_DROP = "1000"
# Nothing runs in a hundredth of the time: the job measures how fast the model gets, and stops.
_BEYOND_REACH = "1%"
# What is fastest once may come out a little slower the next time.
FASTEST_MARGIN = 1.03
# What anyone would try first, and hardly a search: the whole level table is what is wanted.
_FIRST_TRIALS = 8
BASE, _SCRATCH = "job-base", "scratch"


class Spoken(Silent):
    """Tells a waiting person the stages and remarks of a job."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name = name
        self._say = say

    def stage(self, name: str, detail: str = "") -> None:
        """One line."""
        self._say(f"    {self._name}: {name} {detail}".rstrip())

    def note(self, text: str) -> None:
        """One line."""
        self._say(f"    {self._name}: {text}")


def job_fields(
    files: ModelFiles, scale: Scale, budget: str, output_dir: Path, seconds: float
) -> dict[str, Any]:
    """The configuration of one job, as Python and the command line take it."""
    return {
        "calibration": files.calibration,
        "validation": files.validation,
        "metric": files.metric,
        "latency_budget": budget,
        "max_drop": _ANY_DROP,
        "input_shape": files.input_shapes,
        "trials": scale.trials,
        "time_limit": seconds,
        "output_dir": output_dir,
    }


def command_line(model: Path, fields: dict[str, Any]) -> list[str]:
    """The same job as a command."""
    words = [sys.executable, "-m", "autosparse", "optimize", str(model)]
    for name, value in fields.items():
        for item in value if isinstance(value, tuple) else (value,):
            words += ["--" + name.replace("_", "-"), str(item)]
    return words


def find_reach(
    files: ModelFiles, scale: Scale, output_dir: Path, limit_seconds: float = math.inf
) -> SampledRun:
    """Ask for a budget beyond reach, to be told how fast the model gets.

    Raises:
        RuntimeError: the command failed, or did not end with that verdict.
        Unfinished: the limit was too short; the next call goes on.
    """
    asked = run_command(
        files, scale, _BEYOND_REACH, output_dir, scale.base_seconds,
        resume=Workspace(output_dir).config.is_file(), limit_seconds=limit_seconds,
    )  # fmt: skip
    check_end(asked, Verdict.LATENCY_INFEASIBLE)
    return asked


def build_table(
    files: ModelFiles, scale: Scale, output_dir: Path, limit_seconds: float = math.inf
) -> SampledRun:
    """Go on with a budget within reach, for which the whole level table is built.

    Raises:
        RuntimeError: the command failed.
        Unfinished: the limit was too short; the next call goes on.
    """
    built = run_table(files, scale, output_dir, limit_seconds)
    check_end(built, *Verdict)
    return built


def run_table(
    files: ModelFiles, scale: Scale, output_dir: Path, limit_seconds: float = math.inf
) -> SampledRun:
    """As `build_table`, for callers that look at the run however it ended."""
    few = replace(scale, trials=_FIRST_TRIALS)
    budget = f"{min(100 * reach_of(output_dir) * FASTEST_MARGIN, 100):.1f}%"
    return run_command(
        files, few, budget, output_dir, scale.base_seconds, resume=True,
        limit_seconds=limit_seconds,
    )  # fmt: skip


def reach_of(output_dir: Path) -> float:
    """Latency of the fastest recipe that a job measured, over the baseline's.

    Raises:
        RuntimeError: it measured none.
    """
    fastest = read_manifest(Workspace(output_dir).bundle).fastest
    if fastest is None:
        raise RuntimeError("the job measured no fastest recipe")
    return fastest.latency_ratio


def check_end(run: SampledRun, *verdicts: Verdict) -> None:
    """Make sure that a command came to one of these verdicts.

    Raises:
        RuntimeError: it did not.
        Unfinished: it was ended before, and can be resumed.
    """
    if run.timed_out:
        raise Unfinished(f"the job was ended after {run.seconds:.0f} s, and goes on another time")
    if run.exit_code not in {verdict.exit_code for verdict in verdicts}:
        raise RuntimeError(f"the job ended with code {run.exit_code}: {run.complaint[-300:]}")


def run_command(
    files: ModelFiles,
    scale: Scale,
    budget: str,
    output_dir: Path,
    seconds: float,
    *,
    resume: bool = False,
    limit_seconds: float = math.inf,
) -> SampledRun:
    """Run one job as a command, in a directory of its own that shadows nothing."""
    cwd = output_dir.with_name(output_dir.name + "-cwd")
    cwd.mkdir(parents=True, exist_ok=True)
    fields = job_fields(files, scale, budget, output_dir, seconds)
    command = command_line(files.onnx, fields)
    return run_sampled(
        [*command, "--resume"] if resume else command, cwd, limit_seconds=limit_seconds
    )


def solve(
    files: ModelFiles, scale: Scale, base: Path, budget: str, say: Callable[[str], None]
) -> Result:
    """Solve one budget from a copy of the base job: same table, a search of its own.

    What an earlier call left is not gone on with: every search has the same time.
    """
    output_dir = base.with_name(f"job-{budget.rstrip('%')}")
    shutil.rmtree(output_dir, ignore_errors=True)
    shutil.copytree(base, output_dir, ignore=shutil.ignore_patterns(_SCRATCH))
    result: Result = autosparse.optimize(
        files.onnx,
        resume=True,
        progress=Spoken(f"{files.name} at {budget}", say),
        **job_fields(files, scale, budget, output_dir, scale.search_seconds),
    )
    return result
