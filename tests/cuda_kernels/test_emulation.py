"""The emulation notices what a device would leave to chance: kernels that are wrong in one way."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from backends.cuda_kernels.layer import Parameters
from tests.cuda_kernels.emulated import ORDERS, EmulationError, build, emulate

THREADS, BYTES = 64, 1024
SOURCE = """
#include "linear.h"
/* Every thread copies 16 bytes; then each reads those of its neighbour in the other warp. */
#define EXCHANGE(name, wait, barrier)                                     \\
  AS_KERNEL(name, 64) {                                                   \\
    AS_SHARED(shared);                                                    \\
    const int thread = as_thread();                                       \\
    as_copy16(shared + 16 * thread, (const char *)p.input + 16 * thread, 16); \\
    as_commit_copies();                                                   \\
    wait;                                                                 \\
    barrier;                                                              \\
    uint32_t words[4];                                                    \\
    as_load_matrices(words, shared + 16 * (63 - thread));                 \\
    as_wait_copies(0);                                                    \\
    ((uint32_t *)p.output)[thread] = words[0];                            \\
  }
EXCHANGE(right, as_wait_copies(0), as_barrier())
EXCHANGE(without_barrier, as_wait_copies(0), (void)0)
EXCHANGE(without_wait, (void)0, as_barrier())
EXCHANGE(waits_for_too_few, as_wait_copies(1), as_barrier())

AS_KERNEL(leaves_a_copy, 64) {
  AS_SHARED(shared);
  as_copy16(shared, p.input, 16);
}
AS_KERNEL(lanes_part, 64) {
  AS_SHARED(shared);
  uint32_t words[4];
  if (as_thread() == 7) as_barrier();
  as_load_matrices(words, shared);
}
AS_KERNEL(one_waits, 64) {
  if (as_thread() == 40) as_barrier();
}
AS_KERNEL(outside, 64) {
  AS_SHARED(shared);
  const uint32_t words[4] = {0};
  as_store16(shared + 16 * (as_thread() + 1), words);
}
AS_KERNEL(writes_beyond, 64) {
  AS_SHARED(shared);
  shared[1024] = 1;
}
AS_KERNEL(unordered, 64) {
  float sum[4] = {0};
  const uint32_t zeros[4] = {0};
  as_mma_sparse_fp16(sum, zeros, zeros, 0, 0);
}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """A library of kernels, most of which are wrong."""
    directory: Path = tmp_path_factory.mktemp("wrong")
    return build(directory, {"wrong.c": SOURCE})


def exchanged(kernels: ctypes.CDLL, kernel: str, order: str) -> bool:
    """Whether every thread got what its neighbour copied."""
    given = np.arange(THREADS * 4, dtype=np.uint32)
    got = np.zeros(THREADS, np.uint32)
    parameters = Parameters(input=given.ctypes.data, output=got.ctypes.data)
    emulate(kernels, kernel, parameters, (1, 1), THREADS, BYTES, order)
    # ldmatrix: 4 bytes of row (lane / 4) of the first matrix, whose address lane (lane / 4) gave
    lane, warp = np.arange(THREADS) % 32, np.arange(THREADS) // 32
    row = 63 - (32 * warp + lane // 4)
    return bool(np.array_equal(got, 4 * row + lane % 4))


def test_a_kernel_that_is_right_is_right_in_any_order(kernels: ctypes.CDLL) -> None:
    assert all(exchanged(kernels, "right", order) for order in ORDERS)


@pytest.mark.parametrize("kernel", ["without_barrier", "without_wait", "waits_for_too_few"])
def test_a_kernel_that_does_not_wait_goes_wrong(kernels: ctypes.CDLL, kernel: str) -> None:
    assert not all(exchanged(kernels, kernel, order) for order in ORDERS)


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        ("leaves_a_copy", "copies are under way at the end"),
        ("lanes_part", "waits for ever"),
        ("one_waits", "thread 40 waits for ever"),
        ("outside", "thread 63: outside shared memory"),
        ("writes_beyond", "wrote beyond its shared memory"),
        ("unordered", "the metadata's indices are not in order"),
    ],
)
def test_what_no_device_promises_is_an_error(
    kernels: ctypes.CDLL, kernel: str, problem: str
) -> None:
    with pytest.raises(EmulationError, match=problem):
        exchanged(kernels, kernel, "in turns")


def test_numbers_of_16_bits_are_those_of_numpy(kernels: ctypes.CDLL) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    kernels.as_of_fp16.restype = kernels.as_of_bf16.restype = ctypes.c_float
    kernels.as_to_fp16.restype = ctypes.c_uint16
    real = every.view(np.float16).astype(np.float32)
    for bits in range(0, 1 << 16, 61):
        got = kernels.as_of_fp16(ctypes.c_uint16(bits))
        np.testing.assert_equal(np.float32(got), real[bits])
        if np.isfinite(real[bits]):
            assert kernels.as_to_fp16(ctypes.c_float(got)) == bits
            between = np.float32(got) * np.float32(1.0003)
            wanted = int(np.float32(between).astype(np.float16).view(np.uint16))
            assert kernels.as_to_fp16(ctypes.c_float(float(between))) == wanted
