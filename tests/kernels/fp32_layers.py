"""Sparse fp32 layers, what they compute, and memory that must not be read beyond, for tests."""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import platform

import numpy as np
import numpy.typing as npt
import pytest

from backends.kernels import targets
from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.sparse_layer import SparseLayer, nonzero_runs

Floats = npt.NDArray[np.float32]
SETS = tuple(known.name for known in targets.instruction_sets(platform.machine()))
"""Those of this architecture, the best one last."""
OF_FP32 = tuple(
    pytest.param(name, marks=pytest.mark.slow if name == "avx2-vnni" else ()) for name in SETS
)
"""The same for what has no integers: there that one is avx2 once more."""
PROTECTED = 0
"""`PROT_NONE`: any access is a fault."""
EXACT = 4e-6
"""Largest error, of the sum of the absolute products."""


def instruction_sets(library: KernelLibrary) -> tuple[str, ...]:
    """Those that this machine has, the best one last."""
    return tuple(name for name in SETS if library.has_instruction_set(name))


def weight(
    outputs: int, depth: int, zeros: float, random: np.random.Generator, uneven: bool = False
) -> Floats:
    """(outputs, depth) with a share of zeros; `uneven` rows hold from none to all of it."""
    share = zeros * (random.random((outputs, 1)) * 2 if uneven else np.ones((outputs, 1)))
    made = random.standard_normal((outputs, depth)).astype(np.float32)
    return np.where(random.random((outputs, depth)) < share, np.float32(0), made)


def layer(matrix: Floats, bias: Floats | None = None, **fields: object) -> SparseLayer:
    """A layer of (outputs, depth)."""
    positions, values = nonzero_runs(matrix, 1)
    outputs, depth = matrix.shape
    made = SparseLayer(outputs, depth, positions=positions, values=values, bias=bias)
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


def assert_product(
    result: Floats, x: Floats, matrix: Floats, bias: Floats | None = None, size: float = EXACT
) -> None:
    """Compare with a product in double precision, relative to the size of its terms."""
    wide, terms = matrix.astype(np.float64), x.astype(np.float64)
    shift = np.zeros(len(matrix)) if bias is None else bias.astype(np.float64)
    expected = terms @ wide.T + shift
    bound = size * (np.abs(terms) @ np.abs(wide).T + np.abs(shift)) + 1e-30
    assert result.shape == expected.shape
    assert np.all(np.abs(result - expected) <= bound)


def unaligned(shape: tuple[int, ...]) -> Floats:
    """An array whose memory is aligned to its element and to nothing more."""
    memory = np.empty(int(np.prod(shape)) + 64, np.float32)
    skip = (-memory.ctypes.data % 64) // 4 + 1
    return memory[skip : skip + int(np.prod(shape))].reshape(shape)


class EndOfPage:
    """Arrays that end where memory ends: an access beyond them is a fault."""

    def __init__(self) -> None:
        self._kept: list[mmap.mmap] = []

    def empty(self, shape: tuple[int, ...]) -> Floats:
        """A float32 array of `shape`."""
        count = int(np.prod(shape))
        used = -(-count * 4 // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, used + mmap.PAGESIZE)
        self._kept.append(memory)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(address + used, mmap.PAGESIZE, PROTECTED) == 0
        whole = np.frombuffer(memory, np.float32, used // 4)
        return whole[used // 4 - count :].reshape(shape)
