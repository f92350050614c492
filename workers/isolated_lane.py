"""A measurement lane on this machine: one pinned child process that only times files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from typing import IO

from pydantic import ValidationError

from autosparse.errors import KilledError, MeasurementError
from autosparse.evaluation import Environment, read_environment
from autosparse.journal import full_disk
from workers.asking_lane import AskingLane
from workers.measuring_cores import MeasuringCores, last_cores
from workers.messages import MeasureRequest, ProfileRequest, Reply
from workers.pipes import read_line
from workers.quiet_memory import QuietMemory

_KEPT_OF_STDERR = 2000


class IsolatedLane(AskingLane):
    """Has requests answered by one child process.

    The child is started when it is first needed, and again after it died: a file that crashes the
    runtime is a failed candidate, not the end of a search.

    Args:
        quiet: as for every `AskingLane`.
        cores: shared with the other jobs of this machine; None where there are none to mind.
    """

    def __init__(
        self, quiet: QuietMemory | None = None, cores: MeasuringCores | None = None
    ) -> None:
        super().__init__(quiet)
        self._cores = cores
        self._child: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def ask(
        self, request: MeasureRequest | ProfileRequest, limit_seconds: float, *, fresh: bool
    ) -> Reply:
        """Have the child answer; see `AskingLane.ask`.

        Starting it and opening files are held, too: that work is done on the same cores.

        Raises:
            WorkerError: other jobs measure there for too long.
        """
        if self._cores is None:
            return self._answer(request, limit_seconds, fresh=fresh)
        with self._cores.held(last_cores(os.sched_getaffinity(0), request.target.threads)):
            return self._answer(request, limit_seconds, fresh=fresh)

    def _answer(
        self, request: MeasureRequest | ProfileRequest, limit_seconds: float, *, fresh: bool
    ) -> Reply:
        if fresh:
            self.close()
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
            raise self._death(child)
        try:
            reply = Reply.model_validate_json(line)
        except ValidationError as error:
            self.close()
            raise MeasurementError("the measuring process answered nonsense") from error
        if reply.no_room:
            raise full_disk(f"the measuring process's files in {tempfile.gettempdir()}")
        return reply

    def environment(self) -> Environment:
        """This machine."""
        return read_environment()

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

    def _death(self, child: subprocess.Popen[bytes]) -> MeasurementError:
        code = child.wait()
        said = b""
        if self._stderr is not None:
            self._stderr.seek(0)
            said = self._stderr.read()[-_KEPT_OF_STDERR:]
        self.close()
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        kind = KilledError if code == -signal.SIGKILL else MeasurementError
        return kind(f"the measuring process {how}: {last[0]}")
