"""One job in a process of its own, told on a pipe line by line.

What a person would see goes to the job's log; what is not meant for people outside, such as the
trace of a bug, to standard error.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from api.job_work import WORK
from api.problem_details import problem_of
from api.sandbox import (
    keep_loopback,
    keep_to_a_cluster,
    leave_network,
    limit_resources,
)
from autosparse.errors import UserInputError, WorkerError
from autosparse.parent_process import end_with_parent
from autosparse.pipeline.records import TrialRecord

_STEPS_PER_SECOND = 2.0
_MOST_LOG_BYTES = 64 << 20
_WAIT_FOR_FORMER_SECONDS = 60.0


class PipeProgress:
    """Tells the runner what happens as JSON lines, and writes the job's log."""

    def __init__(self, pipe: IO[bytes], log: IO[str]) -> None:
        self._pipe = pipe
        self._log = log
        self._started = time.monotonic()
        self._next_step = 0.0
        self._here = f"{Path.cwd()}/"

    def stage(self, name: str, detail: str = "") -> None:
        """A line, and an event; where on the server the job's files are is nobody's business."""
        detail = detail.replace(self._here, "")
        self._say(f"{name:<12} {detail}")
        self.tell("stage", stage=name, detail=detail)

    def step(self, done: int, total: int, detail: str = "") -> None:
        """Not too often: nobody needs each."""
        if time.monotonic() >= self._next_step or done >= total:
            self._next_step = time.monotonic() + 1 / _STEPS_PER_SECOND
            self.tell("step", done=done, total=total, detail=detail)

    def trial(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """The whole record: the service keeps it."""
        self._say(
            f"trial        {record.recipe.id} {record.latency_seconds * 1e3:.3f} ms "
            f"({record.evidence.latency_ratio:.1%}), drop {record.evidence.drop:.5g}"
        )
        best_id = None if best is None else best.evidence.recipe_id
        self.tell("trial", record=record.model_dump(mode="json"), best=best_id)

    def note(self, text: str) -> None:
        """A line, and an event."""
        text = text.replace(self._here, "")
        self._say(f"note         {text}")
        self.tell("note", text=text)

    def tell(self, kind: str, **data: Any) -> None:
        """One line on the pipe."""
        line = json.dumps({"kind": kind, **data}).encode() + b"\n"
        while line:
            line = line[os.write(self._pipe.fileno(), line) :]

    def _say(self, line: str) -> None:
        if self._log.tell() < _MOST_LOG_BYTES:
            self._log.write(f"{time.monotonic() - self._started:7.1f}s {line}\n")
            self._log.flush()


def main() -> None:
    """Read one request from standard input, run the job, tell the end."""
    end_with_parent(int(sys.argv[1]))
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # libraries may print
    request = json.loads(sys.stdin.readline())
    # in this order: who may not be looked into can, unless as root, not have a network of its own
    isolated = _confine(request["config"])
    limit_resources(memory_bytes=request["memory_bytes"], file_bytes=request["file_bytes"])
    with Path("log.txt").open("a", encoding="utf-8") as log, Path("process.lock").open("w") as lock:
        progress = PipeProgress(pipe, log)
        _wait_for_former(lock)
        if not isolated:
            progress.note("this system does not let the job leave the network")
        _run(request["kind"], request["config"], progress)


def _confine(config: dict[str, Any]) -> bool:
    """Give up what the job needs not of the network; whether the system allows it.

    Raises:
        WorkerError: workers are asked for here, and only a network of its own could hold them.
    """
    if not config.get("workers"):
        return leave_network()
    if config.get("ray_address"):
        keep_to_a_cluster()
    elif not keep_loopback():
        raise WorkerError("this system gives a job no network of its own for its workers")
    return True


def _run(kind: str, config: dict[str, Any], progress: PipeProgress) -> None:
    try:
        WORK[kind](config, progress)
    except UserInputError as error:
        here = f"{Path.cwd()}/"
        problem = problem_of(error)
        told = problem.model_copy(update={"detail": problem.detail.replace(here, "")})
        progress.tell("failed", problem=told.model_dump(mode="json"))


def _wait_for_former(lock: IO[str]) -> None:
    """A process of a runner that lost this job may need a moment to notice."""
    end = time.monotonic() + _WAIT_FOR_FORMER_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return
