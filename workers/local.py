"""Assemble a job on this machine: the only place where names become objects that run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from autosparse.artifacts.ladder_page import LADDER_FILE
from autosparse.errors import ConfigError
from autosparse.evaluation import Target
from autosparse.evaluation.target import ANY_BACKEND
from autosparse.pipeline.config import JobConfig, read_config, read_configs
from autosparse.pipeline.every_backend import EnginesOn, run_on_every_backend
from autosparse.pipeline.job import Engines, target_of
from autosparse.pipeline.ladder import Ladder, run_ladder
from autosparse.pipeline.optimize import Result, run_job
from autosparse.pipeline.progress import Progress, Silent
from autosparse.pipeline.verify import Verification, run_verify
from backends import BACKENDS
from workers.lanes import lane_of

if TYPE_CHECKING:
    import torch

    from autosparse.model_graph.torch_export import DynamicShapes, ExampleInputs


@contextmanager
def local_engines(target: Target, progress: Progress) -> Iterator[Engines]:
    """The target's backend, and the lane that measures there; everything else in this process.

    Raises:
        ConfigError: the target is an agent's, and its key is missing.
    """
    with lane_of(target, progress.note) as lane:
        yield Engines(backend=BACKENDS.load(target.backend), lane=lane, progress=progress)


@contextmanager
def engines_of(config: JobConfig, progress: Progress) -> Iterator[Engines]:
    """What runs a job, as its configuration asks: in this process, or on workers of Ray.

    Raises:
        NotInstalledError: workers are asked for, and Ray is not installed.
        ConfigError: the cluster cannot be joined.
    """
    target = target_of(config)
    if config.workers == 0:
        with local_engines(target, progress) as engines:
            yield engines
        return
    from workers.on_ray import ray_engines

    with ray_engines(config, target, progress) as engines:
        yield engines


def run(
    config: JobConfig, progress: Progress, *, resume: bool = False, answer_now: Event | None = None
) -> Result:
    """Run a job, or one on each backend where the target leaves the backend open.

    Args:
        config: what is asked.
        progress: told what happens.
        resume: continue what is in the output directory.
        answer_now: set where somebody does not want to wait any longer.

    Raises:
        UserInputError: something given is wrong; the message says what to do.
    """
    _check_no_ladder(config.output_dir)
    engines_on = _answering(progress, answer_now or Event())
    if target_of(config).backend == ANY_BACKEND:
        backends = BACKENDS.names()
        return run_on_every_backend(config, backends, engines_on, progress, resume=resume)
    with engines_on(config) as engines:
        return run_job(config, engines, resume=resume)


def run_all(
    configs: Sequence[JobConfig],
    progress: Progress,
    *,
    resume: bool = False,
    answer_now: Event | None = None,
) -> Ladder:
    """Run a job for each target and budget, in one output directory.

    Args:
        configs: what is asked; they differ in target and budget only.
        progress: told what happens.
        resume: continue what is in the output directory.
        answer_now: set where somebody does not want to wait any longer.

    Raises:
        UserInputError: something given is wrong; the message says what to do.
    """
    return run_ladder(configs, _answering(progress, answer_now or Event()), progress, resume=resume)


def _answering(progress: Progress, answer_now: Event) -> EnginesOn:
    """Engines of any configuration, which answer when they are told to."""

    @contextmanager
    def engines_on(config: JobConfig) -> Iterator[Engines]:
        with engines_of(config, progress) as engines:
            yield replace(engines, answer_now=answer_now)

    return engines_on


def _check_no_ladder(root: Path) -> None:
    if (root / LADDER_FILE).exists():
        raise ConfigError(
            f"{root} holds a ladder of several jobs",
            hint="give all of its targets and budgets to resume it, the directory of one job in "
            "it to go on with that one, or another --output-dir",
        )


def optimize(
    model: Path | str | torch.nn.Module,
    *,
    example_inputs: ExampleInputs | None = None,
    dynamic_shapes: DynamicShapes | None = None,
    config: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    answer_now: Event | None = None,
    **fields: Any,
) -> Result:
    """Optimize a model for a latency budget on this machine.

    Args:
        model: ONNX file, or a torch module, which is exported into the output directory.
        example_inputs: of a module: what its `forward` is called with, as one tensor, in order,
            or by name. The calibration and validation arrays are named like its parameters.
        dynamic_shapes: of a module: free dimensions beside the batch, as input -> axis -> name;
            None in place of a name keeps the size of the example.
        config: YAML or JSON document with the same fields; what is given here goes before it.
        resume: continue the job in `output_dir`.
        progress: told what happens; silent by default.
        answer_now: set it, from another thread or a signal's handler, to have what is best so
            far verified and delivered.
        **fields: every field of `autosparse.pipeline.config.JobConfig`, for example
            `latency_budget="60%"`, `max_drop="1pt"`, `calibration=`, `validation=`.

    Returns:
        The verdict, the delivered bundle's directory and its manifest.

    Raises:
        UserInputError: something given is wrong; the message says what to do.
    """
    path = None if config is None else Path(config)
    progress = progress or Silent()
    if isinstance(model, str | os.PathLike):
        if example_inputs is not None or dynamic_shapes is not None:
            raise ConfigError("example_inputs and dynamic_shapes belong to a torch module")
        job_config = read_config({"model": model, **fields}, path)
    else:
        from autosparse.pipeline.module_intake import ModuleRequest, take_in_module

        asked = read_config({"model": type(model).__name__, **fields}, path)
        request = ModuleRequest(model, example_inputs, dynamic_shapes)
        job_config = take_in_module(asked, request, progress, resume=resume)
        resume = True  # the directory is this job's by now
    return run(job_config, progress, resume=resume, answer_now=answer_now)


def ladder(
    model: Path | str,
    *,
    config: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    answer_now: Event | None = None,
    **fields: Any,
) -> Ladder:
    """Optimize a model for several targets and latency budgets, each with a bundle of its own.

    Args:
        model: ONNX file.
        config: YAML or JSON document with the same fields; what is given here goes before it.
        resume: continue the jobs in `output_dir`.
        progress: told what happens; silent by default.
        answer_now: set it, from another thread or a signal's handler, to have what is best so
            far verified and delivered.
        **fields: as for `optimize`; `target` and `latency_budget` may be lists.

    Returns:
        What each target with each budget came to.

    Raises:
        UserInputError: something given is wrong; the message says what to do.
    """
    path = None if config is None else Path(config)
    configs = read_configs({"model": model, **fields}, path)
    return run_all(configs, progress or Silent(), resume=resume, answer_now=answer_now)


def verify(
    bundle: Path | str,
    *,
    model: Path | str | None = None,
    validation: Path | str | None = None,
    target: Path | str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measure and evaluate a delivered bundle again, in a fresh process.

    Args:
        bundle: the delivered directory.
        model: the original model, where it is no longer at the recorded path.
        validation: the validation file, likewise.
        target: target file, or `rpc://HOST:PORT` of an agent, in place of the bundle's target.
        progress: told what happens; silent by default.

    Raises:
        BundleError: the bundle is damaged, or the files are not those it was made from.
    """
    with ExitStack() as stack:
        return run_verify(
            Path(bundle),
            lambda asked: stack.enter_context(local_engines(asked, progress or Silent())),
            model=None if model is None else Path(model),
            validation=None if validation is None else Path(validation),
            target=None if target is None else str(target),
        )
