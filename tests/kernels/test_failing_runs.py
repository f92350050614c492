"""Runs that fail: a layer without memory says so, and a kernel's refusal is told as what it is."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from autosparse.errors import CompileError
from backends.kernels import library as building
from backends.kernels.compilers import CCompiler
from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.sparse_layer import Convolution, Family, KernelPlan, SparseLayer
from tests.kernels import fp32_layers, int8_layers
from tests.kernels.convolutions import convolution_layer, dense_weight, integer_grid

pytestmark = pytest.mark.slow

_TABLE, _MEMORY = "kernel_table", "memory"
_DECLARED = re.compile(r"^int (\w+)\(void \*, const void \*, int32_t, void \*\);$", re.MULTILINE)
_REFUSING = (
    r"static int \1(void *a, const void *b, int32_t c, void *d) "
    r"{ return (void)a, (void)b, (void)c, (void)d, 1; }"
)
_WITHOUT_SCRATCH = """
#include <stdlib.h>
#include <string.h>
#include "internal.h"
void *as_allocate(size_t bytes) {
  void *made = aligned_alloc(64, (bytes / 64 + 1) * 64);
  return made ? memset(made, 0, bytes) : NULL;
}
void as_free(void *memory) { free(memory); }
void *as_scratch_take(size_t bytes) { return (void)bytes, NULL; }
void as_scratch_give(void *memory) { (void)memory; }
"""
Array = npt.NDArray[np.generic]


@pytest.fixture(scope="module")
def parts(kernel_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects of the library."""
    assert kernel_path.is_file()  # so the kernels are compiled
    directory = tmp_path_factory.mktemp("parts")
    return building.kernel_parts(directory, platform.machine(), CCompiler.find())


def linked(parts: list[Path], without: str, source: str, directory: Path) -> KernelLibrary:
    """The library with other code in place of one of its objects."""
    instead = directory / "instead.c"
    instead.write_text(source, encoding="utf-8")
    kept = [path for path in parts if path.stem != without]
    assert len(kept) == len(parts) - 1
    made = directory / "library.so"
    flags = building.shared_flags(building._C_SOURCES / "exports.map")
    building.compile_and_link([*kept, instead], made, CCompiler.find(), flags)
    return KernelLibrary(made)


@pytest.fixture(scope="module")
def refusing(parts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> KernelLibrary:
    """A library of kernels that refuse everything."""
    compiled = building._compiled_kernels(platform.machine())
    table = (compiled / f"{_TABLE}.c").read_text(encoding="utf-8")
    made, count = _DECLARED.subn(_REFUSING, table)
    assert count > 50
    return linked(parts, _TABLE, made, tmp_path_factory.mktemp("refusing"))


@pytest.fixture(scope="module")
def without_scratch(parts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> KernelLibrary:
    """A library that packs layers, and finds no memory when they run."""
    return linked(parts, _MEMORY, _WITHOUT_SCRATCH, tmp_path_factory.mktemp("scratchless"))


def cases() -> dict[str, tuple[SparseLayer, Array]]:
    """Layers of every operator and family that calls a kernel, and inputs."""
    random = np.random.default_rng(0)
    sparse = fp32_layers.weight(40, 64, 0.5, random)
    words = int8_layers.blocks_of_four(40, 64, 0.5, random)
    single = int8_layers.n_of_m(40, 64, (2, 4), random)
    full = np.ones((40, 64), np.int8)
    rows, one = np.ones((70, 64), np.float32), np.ones((1, 64), np.float32)
    how = Convolution(8, (3, 3), pads=(1, 1, 1, 1))
    image = np.ones((1, 8, 9, 9), np.float32)
    small = dense_weight(6, how, 0.5, random)
    integers = np.sign(small).astype(np.int8)
    grid = integer_grid(6, 0)
    return {
        "fp32, broadcast": (fp32_layers.layer(sparse), rows),
        "fp32, permute": (fp32_layers.layer(sparse, plan=KernelPlan(Family.PERMUTE)), one),
        "fp32, dense": (fp32_layers.layer(np.ones((40, 64), np.float32)), rows),
        "int8, broadcast": (int8_layers.integer_layer(words, 4), rows.astype(np.uint8)),
        "int8, N:M": (
            int8_layers.integer_layer(single, 1, group=4, plan=KernelPlan(Family.PERMUTE)),
            rows.astype(np.uint8),
        ),
        "int8, dense": (int8_layers.integer_layer(full, 4), rows.astype(np.uint8)),
        "fp32, convolution": (convolution_layer(small, how), image),
        "int8, convolution": (
            convolution_layer(integers, how, 4, quantization=grid), image.astype(np.uint8)
        ),
        "int8, convolution of N:M": (
            convolution_layer(
                integers, how, quantization=grid, plan=KernelPlan(Family.PERMUTE)
            ),
            image.astype(np.uint8),
        ),
    }  # fmt: skip


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_is_a_fault_of_ours(name: str, refusing: KernelLibrary) -> None:
    layer, x = CASES[name]
    with pytest.raises(CompileError, match="a compiled kernel refused"):
        refusing.pack(layer)(x)


def test_a_product_of_tensors_that_is_refused_is_told_as_that(refusing: KernelLibrary) -> None:
    with pytest.raises(CompileError, match="a compiled kernel refused"):
        refusing.multiply(np.ones((1, 3, 4), np.float32), np.ones((1, 4, 5), np.float32))


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("dense")])
def test_a_layer_without_memory_says_so(name: str, without_scratch: KernelLibrary) -> None:
    layer, x = CASES[name]
    with pytest.raises(CompileError, match="ran out of memory"):
        without_scratch.pack(layer)(x)
