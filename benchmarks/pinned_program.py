"""A small C program, built and run on the core that files are timed on."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from autosparse.errors import CompileError, MeasurementError
from backends.kernels.compilers import CCompiler
from benchmarks.engine_process import last_cores

_LIMIT_SECONDS = 120.0
_PINNED = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.execv(sys.argv[2], sys.argv[2:])
"""


def printed_by(source: str, flags: Sequence[str]) -> str:
    """What a program prints.

    Args:
        source: in C.
        flags: of the compiler.

    Raises:
        MeasurementError: there is no compiler, it refuses, or the program fails.
    """
    try:
        compiler = CCompiler.find()
    except CompileError as error:
        raise MeasurementError(str(error)) from error
    with tempfile.TemporaryDirectory() as name:
        written, program = Path(name) / "program.c", Path(name) / "program"
        written.write_text(source, encoding="utf-8")
        _run([*compiler.command, *flags, "-o", str(program), str(written)])
        return _run([sys.executable, "-c", _PINNED, *map(str, last_cores(1)), str(program)])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MeasurementError(f"the peak could not be measured: {error}") from error
    return done.stdout
