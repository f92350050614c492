"""A measurement lane on this machine: one pinned child process that only times files."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import ValidationError

from autosparse.errors import MeasurementError
from autosparse.evaluation import LoweredModel, Measurement, Target, TimingSettings
from autosparse.evaluation.backend import NodeTime
from autosparse.journal import full_disk
from workers.messages import FileToOpen, MeasureRequest, ProfileRequest, Reply
from workers.pipes import read_line

# Opening a large model, and rounds that overrun: beyond this a measurement hangs.
_GRACE_SECONDS = 120.0
_PROFILE_SECONDS = 300.0
_KEPT_OF_STDERR = 2000


class IsolatedLane:
    """Implements `autosparse.evaluation.MeasurementLane` with one child process.

    The child is started when it is first needed, and again after it died: a file that crashes the
    runtime is a failed candidate, not the end of a search.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def measure(
        self,
        files: Mapping[str, LoweredModel],
        inputs: Path,
        target: Target,
        settings: TimingSettings,
        *,
        fresh: bool = False,
    ) -> dict[str, Measurement]:
        """Time all files interleaved; see `MeasurementLane.measure`."""
        if fresh:
            self.close()
        request = MeasureRequest(
            files={label: FileToOpen.of(model) for label, model in files.items()},
            inputs=inputs.resolve(),
            target=target,
            settings=settings,
        )
        reply = self._ask(request, settings.max_seconds + _GRACE_SECONDS)
        if reply.measurements is None:
            raise MeasurementError(reply.error)
        return reply.measurements

    def profile(
        self, model: LoweredModel, inputs: Path, target: Target, *, runs: int
    ) -> Sequence[NodeTime]:
        """Time every node of one file; see `MeasurementLane.profile`."""
        request = ProfileRequest(
            file=FileToOpen.of(model), inputs=inputs.resolve(), target=target, runs=runs
        )
        reply = self._ask(request, _PROFILE_SECONDS)
        if reply.node_times is None:
            raise MeasurementError(reply.error)
        return reply.node_times

    def close(self) -> None:
        """Kill the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout, self._stderr):
                if pipe is not None:
                    # what a dead child never read is still in the buffer, and cannot be flushed
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._child = None

    def _ask(self, request: MeasureRequest | ProfileRequest, limit_seconds: float) -> Reply:
        child = self._child or self._start(request.target.threads)
        if child.stdin is None or child.stdout is None:
            raise MeasurementError("the measuring process has no pipes")
        try:
            child.stdin.write(request.model_dump_json().encode() + b"\n")
            child.stdin.flush()
            line = read_line(child.stdout, limit_seconds)
        except BrokenPipeError:
            line = b""
        if line is None:
            self.close()
            raise MeasurementError(f"the measurement did not end within {limit_seconds:.0f} s")
        if not line:
            raise MeasurementError(self._describe_death(child))
        try:
            reply = Reply.model_validate_json(line)
        except ValidationError as error:
            self.close()
            raise MeasurementError("the measuring process answered nonsense") from error
        if reply.no_room:
            raise full_disk(f"the measuring process's files in {tempfile.gettempdir()}")
        return reply

    def _start(self, threads: int) -> subprocess.Popen[bytes]:
        """Start the child where no folder of the user's can shadow our packages."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            # the canaries' matrix product must stay on one core
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONSAFEPATH": "1",
        }
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", "from workers.measure_process import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            cwd=tempfile.gettempdir(),
        )
        return self._child

    def _describe_death(self, child: subprocess.Popen[bytes]) -> str:
        code = child.wait()
        said = b""
        if self._stderr is not None:
            self._stderr.seek(0)
            said = self._stderr.read()[-_KEPT_OF_STDERR:]
        self.close()
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"the measuring process {how}: {last[0]}"
