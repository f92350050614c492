"""`autosparse serve` as a user starts it, and the client's commands against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = str(Path(sys.executable).with_name("autosparse"))
_START_SECONDS = _STOP_SECONDS = 120.0
_COMMAND_SECONDS = 3600.0


class Served:
    """A server process in a directory of its own, and commands that talk to it.

    Args:
        directory: where it is started, and keeps its home.
        *flags: for `autosparse serve`.
    """

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.key = ""
        self.url = ""
        self._flags = flags
        self._process: subprocess.Popen[str] | None = None

    def start(self, port: int = 0) -> None:
        """Start, and wait until it listens.

        Raises:
            RuntimeError: it ended, or does not listen in time.
        """
        log = self.directory / "serve.log"
        with log.open("a") as said:
            self._process = subprocess.Popen(
                [SCRIPT, "serve", "--port", str(port), "--json", *self._flags],
                cwd=self.directory, stdout=subprocess.PIPE, stderr=said, text=True,
                env=self.environment(),
            )  # fmt: skip
        told = self._announced()
        if told is None:
            raise RuntimeError(f"the server does not listen: {log.read_text()}")
        self.url = told["address"]
        self.key = told["key"] or self.key

    def _announced(self) -> dict[str, str] | None:
        """What it prints when it listens; None where it ends before."""
        out, text = self.running.stdout, ""
        end = time.monotonic() + _START_SECONDS
        while out is not None and (line := out.readline()) and time.monotonic() < end:
            text += line
            if line.rstrip() == "}":
                told: dict[str, str] = json.loads(text)
                return told
        return None

    @property
    def running(self) -> subprocess.Popen[str]:
        """The server's process."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

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
            capture_output=True, check=False, timeout=_COMMAND_SECONDS,
        )  # fmt: skip

    def stop(self) -> int:
        """Stop it as Ctrl-C does; its exit code."""
        self.running.send_signal(signal.SIGINT)
        code = self.running.wait(_STOP_SECONDS)
        self._close()
        return code

    def kill(self) -> None:
        """End the server alone, by kill -9."""
        self.running.kill()
        self.running.wait()
        self._close()

    def _close(self) -> None:
        if self.running.stdout is not None:
            self.running.stdout.close()
