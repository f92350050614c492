"""Memory of a command and all its processes: proportional set size, sampled while it runs."""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_EVERY_SECONDS = 0.5
_KEPT_OF_STDERR = 600
_LOG = "stderr.txt"
_PSS, _ANONYMOUS = (
    re.compile(rf"^{name}:\s+(\d+) kB$", re.MULTILINE) for name in ("Pss", "Pss_Anon")
)


@dataclass(frozen=True)
class SampledRun:
    """How a command ended, and the most memory that it held at once."""

    exit_code: int
    peak_bytes: int
    seconds: float
    complaint: str
    """End of what it wrote to standard error."""
    timed_out: bool = False
    """Whether it was ended because its time was up."""


def run_sampled(
    command: Sequence[str],
    cwd: Path,
    every_seconds: float = _EVERY_SECONDS,
    limit_seconds: float = math.inf,
) -> SampledRun:
    """Run a command to its end; what it says on standard error stays in its directory.

    Args:
        command: what to run.
        cwd: where.
        every_seconds: between two looks at its memory.
        limit_seconds: after which it is killed.
    """
    started, peak, timed_out = time.monotonic(), 0, False
    log = cwd / _LOG
    with (
        log.open("wb") as said,
        subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=said) as child,
    ):
        while child.poll() is None:
            peak = max(peak, tree_pss_bytes(child.pid))
            time.sleep(every_seconds)
            if time.monotonic() - started > limit_seconds and child.poll() is None:
                child.kill()
                timed_out = True
                child.wait()
    complaint = log.read_text(encoding="utf-8", errors="replace")[-_KEPT_OF_STDERR:]
    seconds = time.monotonic() - started
    return SampledRun(child.returncode, peak, seconds, complaint, timed_out)


def tree_pss_bytes(pid: int) -> int:
    """Proportional set size of a process and all its descendants.

    A page that several of them share is counted once in all, unlike with the resident set size.
    """
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(pss_bytes(process.pid) for process in tree)


def pss_bytes(pid: int) -> int:
    """Proportional set size of one process; 0 where it is gone."""
    return _rolled_up(pid, _PSS)


def anonymous_bytes(pid: int) -> int:
    """The part of the proportional set size that is no file's: what the process allocated.

    Of files it is told less as soon as another process maps them too.
    """
    return _rolled_up(pid, _ANONYMOUS)


def _rolled_up(pid: int, line: re.Pattern[str]) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except (OSError, ValueError):
        return 0  # it ended meanwhile
    found = line.search(text)
    return int(found[1]) * 1024 if found else 0
