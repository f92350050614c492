"""Sampling the memory of a command and its children."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.memory import anonymous_bytes, pss_bytes, run_sampled, tree_pss_bytes

_MIB = 1 << 20
# the child holds the memory, and the parent waits for it
_CHILD = "import time; kept = b'1' * (80 << 20); time.sleep(1.0)"
_PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}])"

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="this kernel has no smaps_rollup"
)


def test_memory_of_a_child_counts(tmp_path: Path) -> None:
    run = run_sampled([sys.executable, "-c", _PARENT], tmp_path, every_seconds=0.05)
    assert run.exit_code == 0
    assert 80 * _MIB < run.peak_bytes < 160 * _MIB


def test_a_failure_keeps_its_code_and_last_words(tmp_path: Path) -> None:
    run = run_sampled([sys.executable, "-c", "import sys; sys.exit('out of luck')"], tmp_path)
    assert run.exit_code == 1
    assert "out of luck" in run.complaint


def test_this_process_has_memory_and_an_ended_one_none() -> None:
    assert tree_pss_bytes(os.getpid()) > _MIB
    assert _MIB < anonymous_bytes(os.getpid()) < pss_bytes(os.getpid())
    assert tree_pss_bytes(2**22 + 1) == 0
