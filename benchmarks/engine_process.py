"""The driver's end of the pipe to an engine that runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from autosparse.errors import MeasurementError
from autosparse.evaluation import LoweredModel
from autosparse.evaluation.measurement import CanaryReading
from workers.pipes import read_line

_HERE = Path(__file__).resolve().parent
_LIMIT_SECONDS = 180.0
_KEPT_OF_STDERR = 2000


def last_cores(count: int) -> tuple[int, ...]:
    """The cores that files are timed on: the first ones serve most of a system's interrupts."""
    return tuple(sorted(os.sched_getaffinity(0))[-count:])


@dataclass
class EngineProcess:
    """One engine, pinned to the last cores; asleep unless it was asked something."""

    name: str
    command: Sequence[str]
    threads: int = 1
    version: str = ""
    """Known once a file was opened."""
    _child: subprocess.Popen[bytes] | None = None
    _stderr: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    @classmethod
    def own(cls, threads: int = 1) -> Self:
        """Our runtime, in this interpreter."""
        command = (sys.executable, "-m", "benchmarks.own_engine", _spelled_cores(threads))
        return cls("ours", command, threads)

    @classmethod
    def of(cls, engine: str, python: Path, threads: int = 1) -> Self:
        """Another engine, by the interpreter that has it."""
        script = str(_HERE / "engine_server.py")
        # isolated: our folders and PYTHONPATH hold modules of names that it may use, too
        return cls(engine, (str(python), "-I", script, engine, _spelled_cores(threads)), threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._stderr.close()

    def open(self, label: str, model: LoweredModel, inputs: Path, *, zeros: float = 0.0) -> None:
        """Open a file.

        Args:
            label: names it in `run`.
            model: the ONNX file; only our own engine loads a library beside it, or opens a file
                for TVM.
            inputs: npz with one inference's inputs.
            zeros: fraction of zeros that the engine is told to look for.

        Raises:
            MeasurementError: the engine refuses it.
        """
        reply = self._ask(
            {"open": label, "path": str(model.path.resolve()), "library": model.library,
             "inputs": str(inputs.resolve()), "threads": self.threads, "zeros": zeros}
        )  # fmt: skip
        self.version = str(reply["version"])

    def run(self, label: str, count: int, warmup: int) -> tuple[float, ...]:
        """Seconds of `count` inferences of an opened file, after some that are not timed."""
        reply = self._ask({"run": label, "count": count, "warmup": warmup})
        return tuple(float(seconds) for seconds in reply["seconds"])

    def canaries(self) -> CanaryReading:
        """Read the canaries on this process's cores; only our own engine has them."""
        return CanaryReading.model_validate(self._ask({"canaries": True})["readings"])

    def close(self) -> None:
        """Kill the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
        self._child = None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        child = self._child or self._start()
        if child.stdin is None or child.stdout is None:
            raise MeasurementError(f"{self.name} has no pipes")
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            line = read_line(child.stdout, _LIMIT_SECONDS)
        except BrokenPipeError:
            line = b""
        if line is None:
            self.close()
            raise MeasurementError(f"{self.name} did not answer within {_LIMIT_SECONDS:.0f} s")
        if not line:
            raise MeasurementError(self._describe_death(child))
        try:
            reply = json.loads(line)
        except json.JSONDecodeError as error:
            self.close()
            raise MeasurementError(f"{self.name} answered nonsense") from error
        if "error" in reply:
            raise MeasurementError(f"{self.name}: {reply['error']}")
        return dict(reply)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(self.threads),
            "OPENBLAS_NUM_THREADS": "1",  # the canaries' matrix product must stay on one core
            "MKL_NUM_THREADS": "1",
        }
        try:
            self._child = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                env=environment, cwd=_HERE.parent,
            )  # fmt: skip
        except OSError as error:
            raise MeasurementError(f"{self.name} does not start: {error}") from error
        return self._child

    def _describe_death(self, child: subprocess.Popen[bytes]) -> str:
        code = child.wait()
        self._stderr.seek(0)
        said = self._stderr.read()[-_KEPT_OF_STDERR:].decode(errors="replace").strip()
        self.close()
        last = said.splitlines()[-1:] or ["it said nothing"]
        return f"{self.name} ended with code {code}: {last[0]}"


def _spelled_cores(threads: int) -> str:
    return ",".join(str(core) for core in last_cores(threads))
