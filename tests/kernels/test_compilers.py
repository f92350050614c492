"""Compilers in processes of their own: at the same time, and none of them left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from autosparse.errors import CompileError
from backends.kernels import compilers
from backends.kernels.compilers import CCompiler, Compilation, run_at_once, run_compiler

ROOT = Path(__file__).parents[2]
_LONG = "600"
_SECONDS = 60


def shell(script: str, what: str = "a file", seconds: float = _SECONDS) -> Compilation:
    return Compilation(("sh", "-c", script), what, seconds=seconds)


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers, "usable_cores", lambda: 2)


@pytest.mark.usefixtures("two_cores")
def test_two_cores_compile_at_the_same_time(tmp_path: Path) -> None:
    """Each end of a pipe waits for the other one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    run_at_once([shell(f"echo met > {pipe}"), shell(f"cat {pipe} > {tmp_path}/met")])
    assert (tmp_path / "met").read_text() == "met\n"


@pytest.mark.usefixtures("two_cores")
def test_an_error_stops_the_others_and_is_quoted(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    endless = f"sleep {_LONG} & echo here > {begun}; wait"
    failing = f"cat {begun}; echo 'cc: error: this file is broken' >&2; exit 3"
    never = tmp_path / "never"
    before = children()
    with pytest.raises(
        CompileError, match=r"compile the second \(exit code 3\): .* this file is broken"
    ):
        run_at_once([shell(endless), shell(failing, "the second"), shell(f"touch {never}")])
    assert not never.exists()
    _, alive = psutil.wait_procs([p for p in children() if p not in before], timeout=_SECONDS)
    assert alive == []


def test_of_several_errors_the_first_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers, "usable_cores", lambda: 1)
    with pytest.raises(CompileError, match="cannot compile first"):
        run_at_once([shell("exit 1", "first"), shell("exit 1", "second")])


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    number = tmp_path / "number"
    endless = f"sleep {_LONG} & echo $! > {number}.part; mv {number}.part {number}; wait"
    with pytest.raises(CompileError, match="timed out"):
        run_compiler(shell(endless, seconds=1.0))
    started = int(number.read_text())
    assert not psutil.pid_exists(started) or psutil.Process(started).status() == "zombie"


def test_one_that_is_not_there_is_told() -> None:
    with pytest.raises(CompileError, match=r"cannot compile a file: .*no-such-compiler"):
        run_at_once([Compilation(("no-such-compiler",), "a file")])


@pytest.mark.usefixtures("two_cores")
def test_an_interrupted_build_leaves_no_compiler() -> None:
    before, parent = children(), os.getpid()
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_at_once([shell(f"sleep {_LONG}"), shell(f"kill -INT {parent}; sleep {_LONG}")])
    finally:
        signal.signal(signal.SIGINT, former)
    _, alive = psutil.wait_procs([p for p in children() if p not in before], timeout=_SECONDS)
    assert alive == []


def test_kernels_are_not_compiled_for_a_job_that_was_killed(tmp_path: Path) -> None:
    """TVM takes longest by far: it and its forks end with whoever asked for them."""
    code = "from backends.kernels.library import kernel_library; kernel_library()"
    job = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, cwd=ROOT,
    )  # fmt: skip
    watched = psutil.Process(job.pid)
    found: list[psutil.Process] = []
    while len(found) < 2:  # the one that has TVM, and a fork of it
        assert job.poll() is None
        time.sleep(0.02)
        found = [p for p in watched.children(recursive=True) if "compile_kernels" in command(p)]
    job.kill()
    job.wait()
    _, alive = psutil.wait_procs(found, timeout=_SECONDS)
    assert alive == []
    assert list(tmp_path.rglob("libautosparse_kernels.so")) == []


CRASH = """
import os, resource, time
from pathlib import Path
from backends.kernels import compile_kernels

def play(piece, directory):
    if piece.target.name == "baseline":
        os.abort()
    time.sleep(600)

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
compile_kernels.compile_piece = play
pieces = {piece.name: piece for piece in compile_kernels.pieces("x86_64")}
two = [pieces["avx2_dense_int8"], pieces["baseline_dense_int8"]]
compile_kernels.compile_at_once(two, Path("."), 2)
"""


def test_a_crash_of_llvm_stops_the_other_kernels_and_is_told() -> None:
    with pytest.raises(
        CompileError,
        match=r"compile kernels \(exit code 1\): error: baseline_dense_int8 ended with -6",
    ):
        run_compiler(Compilation((sys.executable, "-c", CRASH), "kernels", ROOT, seconds=_SECONDS))


def compiler_in(directory: Path, name: str, script: str) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


# as gcc 10 says it
TOO_OLD = """
for word in "$@"; do
  case "$word" in
    -march=x86-64-v*|-mcpu=*) echo "error: bad value '${word#*=}' for '-march=' switch" >&2; exit 1
  esac
done
"""


def test_a_compiler_that_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler_in(tmp_path, "cc", TOO_OLD)
    compiler_in(tmp_path, "gcc", TOO_OLD)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert CCompiler.find().is_zig
    compiler_in(tmp_path, "clang", "exit 0")
    assert CCompiler.find().command == ("clang",)


def test_where_only_such_a_compiler_is_there_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler_in(tmp_path, "cc", TOO_OLD)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(CompileError, match=r"no C compiler .*/cc .*bad value") as caught:
        CCompiler.find()
    assert "gcc 11, clang 12 or a later one" in str(caught.value)


def test_a_compiler_may_be_several_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = compiler_in(tmp_path, "own cc", "exit 0")
    monkeypatch.setenv("CC", f"env LANG=C '{own}' -pipe")
    assert CCompiler.find().command == ("env", "LANG=C", str(own), "-pipe")
    monkeypatch.setenv("CC", "cc 'not closed")
    with pytest.raises(CompileError, match="CC is no command"):
        CCompiler.find()


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
