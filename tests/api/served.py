"""`autosparse serve` as a user starts it, in a directory of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SCRIPT = str(Path(sys.executable).with_name("autosparse"))
PATIENCE_SECONDS = 120.0
_JOB_PROCESS = "api.job_process"
_RUNNER = "api.runner"


class Served:
    """A server process, and commands that talk to it."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.key = ""
        self._flags = flags
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, port: int = 0) -> None:
        """Start, and wait until it listens."""
        out = self.directory / "serve.txt"
        with out.open("w") as said, (self.directory / "serve.log").open("a") as log:
            self._process = subprocess.Popen(
                [SCRIPT, "serve", "--port", str(port), *self._flags], cwd=self.directory,
                stdout=said, stderr=log, text=True, env=self.environment(),
            )  # fmt: skip
        end = time.monotonic() + PATIENCE_SECONDS
        while "Listening" not in out.read_text():
            assert self._process.poll() is None, (self.directory / "serve.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        told = out.read_text()
        self.url = re.findall(r"Listening on (\S+)", told)[0]
        self.key = (re.findall(r"AUTOSPARSE_KEY=(\S+)", told) or [self.key])[0]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def environment(self) -> dict[str, str]:
        """What the client's commands read."""
        return {
            **os.environ, "OMP_NUM_THREADS": "1", "AUTOSPARSE_SERVER": self.url,
            "AUTOSPARSE_KEY": self.key,
        }  # fmt: skip

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the client."""
        return subprocess.run(
            [SCRIPT, *argv], cwd=self.directory, env=self.environment(), text=True,
            capture_output=True, check=False, timeout=900,
        )  # fmt: skip

    def stop(self) -> int:
        """Stop it as Ctrl-C does; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """End the server alone, by kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

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


def until(holds: Any) -> None:
    """Wait for something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
