"""Machine code for GPUs, made without one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from autosparse.errors import CompileError
from backends.cuda_kernels import cubin as compiling
from backends.cuda_kernels.cubin import ARCHITECTURES, cubin, find_nvcc, nvcc_command
from backends.cuda_kernels.tiles import (
    BLOCK_ROWS,
    Element,
    Structure,
    kernel_names,
    kernel_source,
    tiles,
)

NVCC = find_nvcc()
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="NVIDIA's compiler nvcc is not installed")
CUDA_ELF = 190
"""e_machine of an ELF file for a GPU."""
SHARED_BYTES = {"sm_80": 163 << 10, "sm_90": 227 << 10}
"""That a block may have."""


def assert_has_every_kernel(made: Path, element: Element) -> None:
    code = made.read_bytes()
    assert code[:4] == b"\x7fELF"
    assert int.from_bytes(code[18:20], "little") == CUDA_ELF
    missing = [name for name in kernel_names(element) if f".text.{name}\0".encode() not in code]
    assert missing == []


@needs_nvcc
def test_it_is_made_for_a_device_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "kernel_source", lambda element: few_kernels(element))
    made = cubin(Element.INT8, "sm_90")
    assert b".text.as_int8_two_of_four_few\0" in made.read_bytes()
    assert cubin(Element.INT8, "sm_90") == made


def few_kernels(element: Element) -> str:
    """The source, with the first kernel of 2:4 alone."""
    head, *kernels = kernel_source(element).split("\n\n")
    return "\n\n".join([head, *(k for k in kernels if "two_of_four_few\n" in k)]) + "\n"


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("element", Element, ids=lambda e: e.value)
def test_no_kernel_keeps_registers_in_memory(
    tmp_path: Path, element: Element, architecture: str
) -> None:
    assert NVCC is not None
    source, made = tmp_path / "kernels.cu", tmp_path / "kernels.cubin"
    source.write_text(kernel_source(element))
    done = subprocess.run(
        [*nvcc_command(NVCC, architecture), "-Xptxas", "-v", "-o", str(made), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_has_every_kernel(made, element)
    spilled = re.findall(r"(\d+) bytes spill stores", done.stderr)
    assert len(spilled) == len(kernel_names(element))
    assert set(spilled) == {"0"}, done.stderr
    assert "warning" not in done.stderr.lower()


def test_shared_memory_is_what_a_block_may_have() -> None:
    choices = [tiles(s) for s in (Structure.DENSE, Structure.TWO_OF_FOUR)]
    choices += [tiles(Structure.BLOCKS, rows) for rows in BLOCK_ROWS]
    assert max(t.shared_bytes for some in choices for t in some) <= min(SHARED_BYTES.values())


def test_without_the_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_nvcc", lambda: None)
    with pytest.raises(CompileError, match=r"nvcc.*CUDA toolkit, 12\.5 or later"):
        cubin(Element.FP16, "sm_90")


@needs_nvcc
def test_what_the_compiler_refuses_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "kernel_source", lambda element: "#error no such thing\n")
    with pytest.raises(CompileError, match="cannot compile the kernels for fp16 on sm_90"):
        cubin(Element.FP16, "sm_90")
    assert list(tmp_path.rglob("*.cubin")) == []
