"""The measuring process: opens files, times them interleaved, answers on a pipe.

It imports no torch, so that nothing but the runtime under test owns threads and memory.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter

from autosparse.errors import AutoSparseError
from autosparse.evaluation import Measurement, read_environment
from autosparse.evaluation.backend import Array
from autosparse.evaluation.canaries import Canaries
from autosparse.evaluation.timing import time_interleaved
from autosparse.heap import return_freed_memory
from autosparse.journal import is_full
from autosparse.parent_process import end_with_parent
from backends import BACKENDS
from workers.measuring_cores import last_cores
from workers.messages import MeasureRequest, ProfileRequest, Reply
from workers.opening import Opener

_REQUEST: TypeAdapter[MeasureRequest | ProfileRequest] = TypeAdapter(
    Annotated[MeasureRequest | ProfileRequest, Field(discriminator="kind")]
)


def main() -> None:
    """Answer requests from standard input until it is closed."""
    end_with_parent(os.getppid())  # what nobody waits for must not disturb the next measurement
    # Ctrl-C at a terminal reaches every process of it, but is meant for the one that asks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # libraries may print: the pipe to the driver is kept apart from what they call stdout
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    canaries, opener = Canaries(), Opener()
    cores = os.sched_getaffinity(0)
    for line in sys.stdin:
        answers.write(_answer(line, canaries, opener, cores).model_dump_json() + "\n")
        answers.flush()
        return_freed_memory()


def _answer(line: str, canaries: Canaries, opener: Opener, cores: set[int]) -> Reply:
    request = _REQUEST.validate_json(line)
    try:
        own = last_cores(cores, request.target.threads)
        os.sched_setaffinity(0, set(own))
        if isinstance(request, ProfileRequest):
            return _profile(request)
        canaries.begin(request.quiet, own)
        return Reply(measurements=_measure(request, canaries, opener), quiet=canaries.seen())
    except AutoSparseError as error:
        return Reply(error=str(error))
    except json.JSONDecodeError as error:
        # a runtime does not say so when there is no room for its trace: it ends in the middle
        return Reply(error=f"the runtime's trace is not whole: {error}", no_room=True)
    except OSError as error:
        if not is_full(error):
            raise
        return Reply(error=str(error), no_room=True)


def _measure(request: MeasureRequest, canaries: Canaries, opener: Opener) -> dict[str, Measurement]:
    backend = BACKENDS.load(request.target.backend)
    inputs = _read_inputs(request.inputs)
    runs: dict[str, Callable[[], object]] = {}
    peaks: dict[str, int | None] = {}
    for label, file in request.files.items():
        runs[label], peaks[label] = opener.open(
            backend, file.to_model(), request.target.threads, inputs
        )
    blocks = time_interleaved(runs, request.settings, canaries)
    environment = read_environment().id
    return {
        label: Measurement(
            label=label,
            file_sha256=request.files[label].to_model().sha256(),
            target=request.target.name,
            environment=environment,
            warmup_runs=request.settings.warmup_runs,
            blocks=taken,
            peak_memory_bytes=peaks[label],
            quiet=canaries.best(),
        )
        for label, taken in blocks.items()
    }


def _profile(request: ProfileRequest) -> Reply:
    backend = BACKENDS.load(request.target.backend)
    times = backend.node_times(
        request.file.to_model(),
        _read_inputs(request.inputs),
        threads=request.target.threads,
        runs=request.runs,
    )
    return Reply(node_times=tuple(times))


def _read_inputs(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


if __name__ == "__main__":
    main()
