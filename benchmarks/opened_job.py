"""A finished job, opened again: its table, ranges, predictor and lane, for further questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autosparse.evaluation import Backend, Target
from autosparse.pipeline.baseline import measure_baseline
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.bench_building import build_bench
from autosparse.pipeline.calibrate import Calibration, calibrate
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import Engines, Job, prepare_job
from autosparse.pipeline.layer_choices import layer_choices
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.recipe_space import resolve_space
from autosparse.pipeline.search_run import Search
from autosparse.pipeline.workspace import Workspace, open_workspace
from backends import BACKENDS
from search_spaces import load_space
from workers.isolated_lane import IsolatedLane


@dataclass(frozen=True)
class OpenedJob:
    """What the stages of the job share, as the job itself built it."""

    job: Job
    bench: Bench
    search: Search
    calibration: Calibration

    @property
    def backend(self) -> Backend:
        """What runs every file of this benchmark, ours and the opponents'."""
        return self.job.engines.backend

    @property
    def target(self) -> Target:
        """Where and how everything is timed."""
        return self.job.target

    @property
    def environment(self) -> str:
        """Id of the environment that its measurements belong to."""
        return self.bench.baseline.environment.id


@contextmanager
def opened_job(output_dir: Path) -> Iterator[OpenedJob]:
    """Open the job that lies in an output directory; what is on disk there is not made again."""
    stored = Workspace(output_dir).config.read_bytes()
    config = JobConfig.model_validate_json(stored).model_copy(update={"output_dir": output_dir})
    with IsolatedLane() as lane, open_workspace(config, resume=True) as workspace:
        engines = Engines(BACKENDS.load(config.backend), lane, Silent())
        job = prepare_job(config, workspace, engines)
        baseline = measure_baseline(job)
        choices = layer_choices(
            job.graph, load_space(config.space).levels, engines.backend, job.target,
            exclude=config.exclude, keep=config.keep,
        )  # fmt: skip
        calibration = calibrate(job, choices)
        bench = build_bench(job, baseline, choices, calibration)
        search = Search(bench, resolve_space(bench), Ledger(workspace.study))
        yield OpenedJob(job, bench, search, calibration)
