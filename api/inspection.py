"""Asking the inspecting process: what is in an upload, and whether a job may be accepted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from pydantic import JsonValue

from api.settings import IntakeLimits
from autosparse import errors
from autosparse.errors import UserInputError, WorkerError
from workers.pipes import read_line

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")
_log = logging.getLogger("autosparse.inspection")
# The libraries are loaded before the first line, and a loaded machine takes its time.
_START_SECONDS = 180.0
_GRACE_SECONDS = 15.0
_WRITING = 2  # threads that store what was looked into, beside those that wait for a look
# Variables that databases, stores, trackers and clusters are opened with.
_SECRETS = ("AUTOSPARSE_", "AWS_", "AZURE_", "FSSPEC_", "GOOGLE_", "MLFLOW_", "PG", "RAY_")
_UNREADABLE: dict[str, type[UserInputError]] = {
    "model": errors.ModelError, "dataset": errors.DataError, "job": errors.ConfigError,
    "resolve": errors.ConfigError, "atlas": errors.ConfigError,
}  # fmt: skip


class Inspector:
    """A few inspecting processes, started when they are needed and again after they died.

    Args:
        limits: what one look may use.
        log: where the processes' own words go.
        slots: how many uploads are looked into at the same time.
    """

    def __init__(self, limits: IntakeLimits, log: Path, slots: int = 2) -> None:
        self._limits = limits
        self._log = log
        self._free: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        self._slots = slots
        self._threads = ThreadPoolExecutor(slots + _WRITING, "looks")
        self._started: set[_Process | None] = set()
        self._is_closed = threading.Event()
        for _ in range(slots):
            self._free.put(None)

    async def run_apart(
        self, work: Callable[Asked, Answer], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> Answer:
        """Do what asks this inspector, in threads that do nothing else.

        A look takes seconds, and many may wait for one: in the threads that all requests share,
        they would keep the server from answering anything.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *args, **kwargs))

    def inspect(self, kind: str, **request: JsonValue) -> dict[str, Any]:
        """Look into an upload.

        Args:
            kind: model or dataset; job, resolve or atlas, which are to be submitted.
            **request: what that kind needs.

        Returns:
            What was found.

        Raises:
            UserInputError: what is wrong with it, as the intake says it.
            WorkerError: the inspecting process cannot be started, or died twice.
        """
        document = {"kind": kind, "limits": self._limits.model_dump(), **request}
        line = json.dumps(document).encode() + b"\n"
        with self._slot() as process:
            answer = process.ask(line, self._limits.wall_seconds + _GRACE_SECONDS)
        if "found" in answer:
            found: dict[str, Any] = answer["found"]
            return found
        known = getattr(errors, answer["error"], None)
        if isinstance(known, type) and issubclass(known, UserInputError):
            raise known(answer["message"], hint=answer["hint"])
        raise _UNREADABLE[kind](
            f"the {kind} was refused: {answer['message']}",
            hint="export it again; if it is sound, ask for higher limits",
        )

    def warm_up(self) -> None:
        """Start one process now, so that the first upload does not wait for its libraries."""
        with self._slot():
            pass

    def close(self) -> None:
        """End the processes at once: whoever waits for one is told that it died."""
        self._is_closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in tuple(self._started):
            if process is not None:
                process.kill()
        for _ in range(self._slots):
            free = self._free.get()
            if free is not None:
                free.close()
        for _ in range(self._slots):
            self._free.put(None)  # whoever waits for one hears that there is none any more

    def _living(self, process: _Process | None) -> _Process:
        if self._is_closed.is_set():
            raise WorkerError("the server ends")
        if process is not None and process.is_alive:
            return process
        self._started.discard(process)
        started = _Process(self._log)
        self._started.add(started)
        if self._is_closed.is_set():  # meanwhile
            started.kill()
        return started

    @contextmanager
    def _slot(self) -> Iterator[_Process]:
        process = self._free.get()
        try:
            process = self._living(process)
            yield process
        except WorkerError:
            if process is not None:
                self._started.discard(process)
                process.close()
            process = None
            raise
        finally:
            self._free.put(process)


class _Process:
    def __init__(self, log: Path) -> None:
        with log.open("ab") as said:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", "from api.inspect_process import main; main()"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                cwd=log.parent, env=confined_environment(),
            )  # fmt: skip
        if not self._read(_START_SECONDS)["network_left"]:
            _log.warning("this system does not let those who read uploads leave the network")

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def ask(self, line: bytes, limit_seconds: float) -> dict[str, Any]:
        try:
            _pipe(self._child.stdin).write(line)
            _pipe(self._child.stdin).flush()
        except BrokenPipeError as error:
            raise WorkerError("the inspecting process died") from error
        return self._read(limit_seconds)

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(BrokenPipeError):
                _pipe(pipe).close()

    def _read(self, limit_seconds: float) -> dict[str, Any]:
        line = read_line(_pipe(self._child.stdout), limit_seconds)
        if not line:
            self.close()
            raise WorkerError("the inspecting process died, or does not answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise WorkerError("the inspecting process has no pipes")
    return pipe


def child_environment() -> dict[str, str]:
    """For a child of the server: no thread pools before it forks, no folders of the user's."""
    return {
        **os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONSAFEPATH": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def confined_environment(with_secrets_of: str = "") -> dict[str, str]:
    """For a child that reads what somebody uploaded: without passwords and keys of the server's.

    Args:
        with_secrets_of: beginning of those variables that it needs all the same.
    """
    every = child_environment()
    kept = {k: v for k, v in every.items() if with_secrets_of and k.startswith(with_secrets_of)}
    return {k: v for k, v in every.items() if not k.startswith(_SECRETS)} | kept
