"""The best instruction set of the processor is the one in use, whichever compiler built it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.library import kernel_library
from tests.kernels import fp32_layers

_AVX2 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
NEEDED: dict[str, set[str]] = {
    "baseline": set(),
    "avx2": _AVX2,
    "avx2-vnni": _AVX2 | {"avx_vnni"},
    "avx512": _AVX512,
    "avx512-vnni": _AVX512 | {"avx512_vnni"},
    "neon": set(),
    "neon-dotprod": {"asimddp"},
}
"""What the kernel of the operating system calls them."""
CPU_INFO = Path("/proc/cpuinfo")


def sets_of_this_machine() -> list[str]:
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    flags = next(set(line.split()) for line in lines if line.startswith(("flags", "Features")))
    return [name for name in fp32_layers.SETS if NEEDED[name] <= flags]


@pytest.mark.skipif(not CPU_INFO.exists(), reason="the flags of the processor are not known")
def test_the_best_instruction_set_is_chosen(library: KernelLibrary) -> None:
    known = sets_of_this_machine()
    assert list(fp32_layers.instruction_sets(library)) == known
    assert library.instruction_set == known[-1]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
def test_zig_builds_the_same_library(
    library: KernelLibrary, kernel_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = kernel_library()
    assert path != kernel_path
    other = KernelLibrary(path)
    assert other.instruction_set == library.instruction_set
    random = np.random.default_rng(0)
    matrix = fp32_layers.weight(37, 70, 0.8, random)
    x = random.standard_normal((19, 70)).astype(np.float32)
    fp32_layers.assert_product(other.pack(fp32_layers.layer(matrix))(x), x, matrix)
