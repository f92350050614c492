"""The best instruction set of the processor is the one in use, whichever compiler built it."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest

from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.library import kernel_library
from tests.kernels import fp32_layers

NEEDED = {
    "avx2": {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"},
    "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "avx512-vnni": {"avx512_vnni"},
    "neon-dotprod": {"asimddp"},
}
"""What the kernel of the operating system calls them; each set needs those before it, too."""
CPU_INFO = Path("/proc/cpuinfo")


def best_of_this_machine() -> str:
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    flags = next(set(line.split()) for line in lines if line.startswith(("flags", "Features")))
    if platform.machine() == "aarch64":
        return "neon-dotprod" if NEEDED["neon-dotprod"] <= flags else "neon"
    best = "baseline"
    for name in ("avx2", "avx512", "avx512-vnni"):
        if not NEEDED[name] <= flags:
            break
        best = name
    return best


@pytest.mark.skipif(not CPU_INFO.exists(), reason="the flags of the processor are not known")
def test_the_best_instruction_set_is_chosen(library: KernelLibrary) -> None:
    assert library.instruction_set == best_of_this_machine()


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
