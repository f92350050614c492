"""Run the product: from Python as a user would, or as a command whose memory is sampled."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import autosparse
from autosparse.artifacts.manifest import Manifest, read_manifest
from autosparse.evaluation import Verdict
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.progress import Silent
from benchmarks.job_models import Scale
from benchmarks.memory import SampledRun, run_sampled
from benchmarks.model_files import ModelFiles

# Wider than any divergence: the budget decides, not the quality that may be lost.
_ANY_DROP = "1000"
# Nothing runs in a hundredth of the time: the job measures how fast the model gets, and stops.
_BEYOND_REACH = "1%"
_BASE, _SCRATCH = "job-base", "scratch"


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


@dataclass(frozen=True)
class BaseJob:
    """The job that found out how fast the model gets; every budget is solved from a copy of it."""

    output_dir: Path
    manifest: Manifest
    run: SampledRun

    @property
    def fastest_ratio(self) -> float:
        """Latency of the fastest recipe it measured, over the baseline's."""
        if self.manifest.fastest is None:
            raise RuntimeError("the job measured no fastest recipe")
        return self.manifest.fastest.latency_ratio


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


def run_base_job(files: ModelFiles, scale: Scale, directory: Path) -> BaseJob:
    """Ask for a budget beyond reach: the answer is the fastest recipe, without a search.

    Raises:
        RuntimeError: the command did not end with the early verdict.
    """
    output_dir = directory / _BASE
    run = run_command(files, scale, _BEYOND_REACH, output_dir, scale.base_seconds)
    if run.exit_code != Verdict.LATENCY_INFEASIBLE.exit_code:
        raise RuntimeError(f"the job ended with code {run.exit_code}: {run.complaint[-300:]}")
    return BaseJob(output_dir, read_manifest(output_dir / "bundle"), run)


def run_command(
    files: ModelFiles, scale: Scale, budget: str, output_dir: Path, seconds: float
) -> SampledRun:
    """Run one job as a command, in a directory of its own that shadows nothing."""
    cwd = output_dir.with_name(output_dir.name + "-cwd")
    cwd.mkdir(parents=True)
    fields = job_fields(files, scale, budget, output_dir, seconds)
    return run_sampled(command_line(files.onnx, fields), cwd)


def solve(
    files: ModelFiles, scale: Scale, base: BaseJob, budget: str, say: Callable[[str], None]
) -> Result:
    """Solve one budget from a copy of the base job: same table, a search of its own."""
    output_dir = base.output_dir.with_name(f"job-{budget.rstrip('%')}")
    shutil.copytree(base.output_dir, output_dir, ignore=shutil.ignore_patterns(_SCRATCH))
    result: Result = autosparse.optimize(
        files.onnx,
        resume=True,
        progress=Spoken(f"{files.name} at {budget}", say),
        **job_fields(files, scale, budget, output_dir, scale.search_seconds),
    )
    return result
