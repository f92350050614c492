"""The guard: a process that outlives the driver by moments, and leaves nothing of Ray behind.

Ray's processes end by themselves some time after their driver was killed, a few of them minutes
later. They all work in one private directory, by which the guard knows them.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

_ROUNDS = 50
_EVERY_SECONDS = 0.1


class Guard:
    """Holds one end of a pipe; the guarding process acts when it is closed, by whatever.

    Args:
        directory: where the guarded processes work, and what is removed in the end.
    """

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from workers.ray_guard import main; main()", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # what kills the driver's group must not kill it
        )

    def close(self) -> None:
        """Let it act now, and wait until it has."""
        self._process.communicate()


def main() -> None:
    """Wait for the end of the driver, then tidy up."""
    sys.stdin.buffer.read()
    directory = Path(sys.argv[1])
    end_processes(directory)
    shutil.rmtree(directory, ignore_errors=True)


def end_processes(directory: Path) -> None:
    """Kill what works in a directory, until nothing does: the last ones may start others."""
    for _ in range(_ROUNDS):
        found = working_in(directory)
        if not found:
            return
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(_EVERY_SECONDS)


def working_in(directory: Path) -> list[psutil.Process]:
    """Living processes whose working directory lies in `directory`."""
    return [
        process
        for process in psutil.process_iter(["cwd", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and process.info["cwd"]
        and Path(process.info["cwd"]).is_relative_to(directory)
    ]
