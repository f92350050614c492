"""`autosparse serve` as a user starts it, and what tests do to its processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks.served import Served as ServedProcess

PATIENCE_SECONDS = 120.0
_JOB_PROCESS = "api.job_process"
_RUNNER = "api.runner"


class Served(ServedProcess):
    """A server whose processes can be found and killed."""

    def kill_runner(self) -> None:
        """End the runner alone, by kill -9."""
        for pid in self.children_running(_RUNNER):
            os.kill(pid, signal.SIGKILL)

    def children_running(self, what: str) -> list[int]:
        """Living processes of this server that run a module of ours."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                line = (path / "cmdline").read_bytes().decode()
                here = os.readlink(path / "cwd")
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            mine = here.startswith(str(self.directory))
            if what in line and mine and state not in "ZX":
                found.append(int(path.name))
        return found

    def nothing_runs(self) -> bool:
        """Whether no process of the server is left."""
        return not any(self.children_running(what) for what in (_JOB_PROCESS, _RUNNER))


def until(holds: Any, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
