"""Tensors of more elements than 32 bits count: kernels compute with 32 bits, and never beyond them.

Such a tensor takes gigabytes of addresses and few of memory: the same pages lie behind all of it.
What is written beside it is a fault, in a process of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from autosparse.errors import CompileError
from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.sparse_layer import Convolution, Quantization, SparseLayer
from tests.kernels.fp32_layers import PROTECTED
from tests.kernels.isolation import endings

PERIOD = 1 << 26
"""Bytes after which memory repeats itself."""
BESIDE = 1 << 33
"""Bytes that nobody may touch, in front of a tensor and behind it: as far as 32 bits miss."""
FIXED, NO_RESERVE = 0x10, 0x4000
"""Linux's, of `mmap`."""
ADDRESSES = 1 << 36
SECONDS = 300
Array = npt.NDArray[np.generic]

pytestmark = pytest.mark.slow


@contextmanager
def repeating(count: int, dtype: type[np.generic]) -> Iterator[Array]:
    """An array (count,) over the same few pages, all zeros at first."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    bytes_ = count * np.dtype(dtype).itemsize
    length = -(-bytes_ // PERIOD) * PERIOD
    file = os.memfd_create("tensor")
    os.ftruncate(file, PERIOD)
    hidden = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    begin = libc.mmap(None, length + 2 * BESIDE, PROTECTED, hidden, -1, 0)
    assert begin not in (None, ctypes.c_void_p(-1).value)
    first = begin + BESIDE
    try:
        for at in range(first, first + length, PERIOD):
            seen = mmap.PROT_READ | mmap.PROT_WRITE
            assert libc.mmap(at, PERIOD, seen, mmap.MAP_SHARED | FIXED, file, 0) == at
        shown = (ctypes.c_char * bytes_).from_address(first)
        yield np.frombuffer(shown, dtype)  # type: ignore[call-overload]  # a buffer all the same
    finally:
        libc.munmap(begin, length + 2 * BESIDE)
        os.close(file)


def ended(attempt: Callable[[], str]) -> str:
    """What an attempt says, that may end its process."""
    (ending,) = endings([("it", attempt)], memory=ADDRESSES, seconds=SECONDS).values()
    return ending.said


def test_a_convolution_writes_no_output_beside_itself(library: KernelLibrary) -> None:
    """2^31 bytes of uint8, of one image and one share of its channels."""
    side, outputs = 1 << 12, 132
    how = Convolution(4, (1, 1))
    grid = Quantization(1.0, 0, np.ones(outputs, np.float32), 1.0, 7)
    layer = SparseLayer(
        outputs, 4, positions=np.zeros(1, np.int64), values=np.ones((1, 4), np.int8), run=4,
        bias=np.full(outputs, 5, np.float32), quantization=grid, convolution=how,
    )  # fmt: skip
    assert outputs * side * side > np.iinfo(np.int32).max

    def attempt() -> str:
        x = np.zeros((1, 4, side, side), np.uint8)
        with repeating(outputs * side * side, np.uint8) as memory:
            made = library.pack(layer)(x, output=memory.reshape(1, outputs, side, side))
            return str(np.unique(made[0, -PERIOD // side**2 :]))

    assert ended(attempt) == "[12]"


def test_a_product_reads_no_rows_beside_its_tensor(library: KernelLibrary) -> None:
    depth, columns = 1 << 15, 64  # a whole panel, of every instruction set
    rows = (1 << 31) // depth + 49
    right = np.ones((1, depth, columns), np.float32)

    def attempt() -> str:
        with repeating(rows * depth, np.float32) as memory:
            memory[: PERIOD // 4 : depth] = np.arange(PERIOD // 4 // depth)
            found = library.multiply(memory.reshape(1, rows, depth), right)
            expected = np.arange(rows) % (PERIOD // 4 // depth)
            return str(np.array_equal(found[0], np.repeat(expected[:, None], columns, axis=1)))

    assert ended(attempt) == "True"


@pytest.mark.parametrize(("depth", "columns"), [(1 << 25, 1), (1, 1 << 25)])
def test_a_product_too_long_to_count_is_refused(
    depth: int, columns: int, library: KernelLibrary
) -> None:
    left, right = np.zeros((1, 1, depth), np.float32), np.zeros((1, depth, columns), np.float32)
    with pytest.raises(CompileError, match="at most"):
        library.multiply(left, right)
