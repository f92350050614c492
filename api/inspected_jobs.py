"""The intake of jobs that are to be submitted, by kind. Runs only in the inspecting process.

Each is the intake that the job itself will have, in directories that are thrown away, so that the
two cannot differ: what is wrong is told to whoever submits, and not to a job an hour later.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from autosparse.errors import ModelError
from autosparse.evaluation import Environment
from autosparse.pipeline.config import JobConfig, ProfileConfig, TargetedModel
from autosparse.pipeline.dry_run import run_dry
from autosparse.pipeline.job import Engines, prepare_job, target_of
from autosparse.pipeline.profiled_model import profiled_model
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.resolve import resolved_config
from autosparse.pipeline.resolve_config import ResolveConfig
from autosparse.pipeline.source_job import FoundJob
from autosparse.pipeline.workspace import Workspace, open_workspace
from backends import BACKENDS
from workers.isolated_lane import IsolatedLane

Document = dict[str, Any]


class _NamedLane(IsolatedLane):
    """A lane of which nothing is asked but where it is.

    Args:
        there: what the device said of itself when it joined.
    """

    def __init__(self, there: Environment) -> None:
        super().__init__()
        self._there = there

    def environment(self) -> Environment:
        """The device that the job names."""
        return self._there


def inspect_search(request: Document) -> Document:
    """A search: model, data, target and metric together, and what may be searched."""
    os.chdir(request["directory"])
    return _taken_in(JobConfig.model_validate(request["config"]), request)


def inspect_resolve(request: Document) -> Document:
    """Another budget: the configuration of the job that it is about, with what is different."""
    os.chdir(request["directory"])
    asked = ResolveConfig.model_validate(request["config"])
    before = JobConfig.model_validate(request["before"])
    source = FoundJob(Workspace(asked.source.absolute()), before, {})
    return _taken_in(resolved_config(asked, source), request)


def inspect_atlas(request: Document) -> Document:
    """An atlas: the model and its inputs in the target's shapes."""
    os.chdir(request["directory"])
    config = ProfileConfig.model_validate(request["config"])
    with profiled_model(config, _engines(config, request)) as model:
        if not model.graph.layers:
            raise ModelError(f"{config.model.name} has no layer that can be compressed")
        return {"layers": len(model.graph.layers), "inputs": model.inputs_words}


def _taken_in(config: JobConfig, request: Document) -> Document:
    engines = _engines(config, request)
    scratch = config.model_copy(update={"output_dir": Path(request["scratch"])})
    with open_workspace(scratch, resume=False) as workspace:
        job = prepare_job(scratch, workspace, engines)
    layers = run_dry(config, engines.backend).choices
    if not any(choice.searched and not choice.level.is_baseline for choice in layers):
        raise ModelError(
            "no layer of the model can be at any level of the space but dense:fp32",
            hint="take another space, or leave exclude and keep away",
        )
    return {"metric": job.metric.name, "rows": len(job.selecting) + len(job.gating)}


def _engines(config: TargetedModel, request: Document) -> Engines:
    there = request["environment"]
    lane = IsolatedLane() if there is None else _NamedLane(Environment.model_validate(there))
    backend = BACKENDS.load(target_of(config).backend)
    return Engines(backend=backend, lane=lane, progress=Silent())
