"""Assemble a resolve on this machine."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.progress import Progress, Silent
from autosparse.pipeline.resolve import run_resolve
from autosparse.pipeline.resolve_config import ResolveConfig, read_resolve_config
from workers.local import engines_of


def resolve(
    source: Path | str,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    answer_now: Event | None = None,
    **fields: Any,
) -> Result:
    """Answer another budget from what a job measured, and verify the answer.

    Args:
        source: a delivered bundle beside its job, the output directory that holds both, or the
            study in it (`job/study.journal`).
        resume: continue an earlier resolve in the same output directory.
        progress: told what happens; silent by default.
        answer_now: set it, from another thread or a signal's handler, to have what is best so
            far verified and delivered.
        **fields: every field of `autosparse.pipeline.resolve_config.ResolveConfig`, for
            example `latency_budget="6ms"`, `keep="conv1=dense:fp32"`, `output_dir=`.

    Returns:
        The verdict, the new bundle's directory and its manifest. The old directory is untouched.

    Raises:
        UserInputError: the job cannot be answered from, or something given is wrong; the message
            says what to do.
    """
    asked = read_resolve_config({"source": source, **fields})
    return resolve_job(asked, progress or Silent(), resume=resume, answer_now=answer_now)


def resolve_job(
    asked: ResolveConfig,
    progress: Progress,
    *,
    resume: bool = False,
    answer_now: Event | None = None,
) -> Result:
    """Resolve with what the job was measured with: its backend, its lane, and its workers."""
    wanted = answer_now or Event()
    with ExitStack() as stack:

        def engines_for(config: JobConfig) -> Engines:
            engines = stack.enter_context(engines_of(config, progress))
            return replace(engines, answer_now=wanted)

        return run_resolve(asked, engines_for, resume=resume)
