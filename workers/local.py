"""Assemble a job on this machine: the only place where names become objects that run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autosparse.pipeline.config import read_config
from autosparse.pipeline.job import Engines
from autosparse.pipeline.optimize import Result, run_job
from autosparse.pipeline.progress import Progress, Silent
from autosparse.pipeline.verify import Verification, run_verify
from backends import BACKENDS
from workers.isolated_lane import IsolatedLane


@contextmanager
def local_engines(backend: str, progress: Progress) -> Iterator[Engines]:
    """The named backend, and a measurement lane in a process of its own."""
    with IsolatedLane() as lane:
        yield Engines(backend=BACKENDS.load(backend), lane=lane, progress=progress)


def optimize(
    model: Path | str,
    *,
    config: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **fields: Any,
) -> Result:
    """Optimize a model for a latency budget on this machine.

    Args:
        model: ONNX file.
        config: YAML or JSON document with the same fields; what is given here goes before it.
        resume: continue the job in `output_dir`.
        progress: told what happens; silent by default.
        **fields: every field of `autosparse.pipeline.config.JobConfig`, for example
            `latency_budget="60%"`, `max_drop="1pt"`, `calibration=`, `validation=`.

    Returns:
        The verdict, the delivered bundle's directory and its manifest.

    Raises:
        UserInputError: something given is wrong; the message says what to do.
    """
    path = None if config is None else Path(config)
    job_config = read_config({"model": model, **fields}, path)
    with local_engines(job_config.backend, progress or Silent()) as engines:
        return run_job(job_config, engines, resume=resume)


def verify(
    bundle: Path | str,
    *,
    model: Path | str | None = None,
    validation: Path | str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measure and evaluate a delivered bundle again, in a fresh process.

    Args:
        bundle: the delivered directory.
        model: the original model, where it is no longer at the recorded path.
        validation: the validation file, likewise.
        progress: told what happens; silent by default.

    Raises:
        BundleError: the bundle is damaged, or the files are not those it was made from.
    """
    with IsolatedLane() as lane:
        return run_verify(
            Path(bundle),
            lambda backend: Engines(BACKENDS.load(backend), lane, progress or Silent()),
            model=None if model is None else Path(model),
            validation=None if validation is None else Path(validation),
        )
