"""Building the library: what is missing is said in a sentence, and what is there is not rebuilt."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from autosparse.errors import CompileError
from backends.kernels import library
from backends.kernels.library import CCompiler, kernel_library


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let these packages look as if they were not installed."""
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> object:
        return None if name in modules else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def test_a_built_library_is_not_built_again(
    kernel_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Path:
        raise AssertionError("built again")

    monkeypatch.setattr(library, "_build", refuse)
    assert kernel_library() == kernel_path


def test_without_tvm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "tvm")
    with pytest.raises(CompileError, match="Apache TVM") as caught:
        kernel_library()
    assert "autosparse[kernels]" in str(caught.value)


def test_without_any_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "ziglang")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CompileError, match="no C compiler") as caught:
        CCompiler.find()
    assert "autosparse[kernels]" in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = tmp_path / "cache"
    occupied.write_text("a file where the directory should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(occupied))
    with pytest.raises(CompileError, match="cannot be kept in") as caught:
        kernel_library()
    assert "XDG_CACHE_HOME" in str(caught.value)


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'cc: error: this compiler is broken' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setattr(library, "_compiled_kernels", lambda target: tmp_path / "none.o")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CompileError, match="this compiler is broken"):
        kernel_library()
