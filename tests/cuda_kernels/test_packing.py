"""The order of packed weights: by hand, and beside PyTorch's copy of what CUTLASS does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.sparse import _semi_structured_conversions as cutlass

from autosparse.errors import CompileError
from autosparse.levels.pattern import parse_pattern
from backends.cuda_kernels.packing import pack_blocks, pack_dense, pack_two_of_four
from backends.cuda_kernels.patterns import pack, why_not_on_tensor_cores
from backends.cuda_kernels.tiles import Element
from tests.cuda_kernels.weights import weight


def test_registers_of_a_lane_by_hand() -> None:
    matrix = np.arange(16 * 32, dtype=np.float32).reshape(16, 32)
    values = pack_dense(matrix, Element.FP16).values.view(np.float16)
    lane_of_output_3_and_features_4_and_5 = 4 * 3 + 2
    registers = values[0, 0, lane_of_output_3_and_features_4_and_5].reshape(4, 2)
    np.testing.assert_array_equal(
        registers, [matrix[3, 4:6], matrix[11, 4:6], matrix[3, 12:14], matrix[11, 12:14]]
    )
    second_part = values[0, 1, lane_of_output_3_and_features_4_and_5].reshape(4, 2)
    np.testing.assert_array_equal(second_part[0], matrix[3, 20:22])


def test_metadata_of_a_group_by_hand() -> None:
    matrix = np.zeros((16, 64), np.float32)
    matrix[9, 20 + 1], matrix[9, 20 + 3] = 5, 7  # group 5 of the first step
    matrix[2, 32 + 2] = 9  # group 0 of the second step, beside a zero at its first place
    packed = pack_two_of_four(matrix, Element.FP16)
    assert packed.metadata.shape == (1, 32)
    one_and_three, nothing, zero_and_two = 0b1101, 0b0100, 0b1000
    lane = 4 * 1 + 1  # output 9 = 1 + 8: the upper half; features 16 to 31
    assert packed.metadata[0, lane] >> 16 == nothing | one_and_three << 4 | 0x44 << 8
    assert packed.metadata[0, 4 * 2 + 2] & 15 == zero_and_two
    stored = packed.values.view(np.float16).reshape(2, 1, 32, 4, 2)
    np.testing.assert_array_equal(stored[0, 0, 4 * 1 + 1, 3], [5, 7])
    np.testing.assert_array_equal(stored[1, 0, 4 * 2 + 0, 0], [0, 9])


@pytest.mark.parametrize(
    ("element", "dtype"),
    [(Element.FP16, torch.float16), (Element.BF16, torch.bfloat16), (Element.INT8, torch.int8)],
)
def test_metadata_lies_as_cutlass_puts_it(element: Element, dtype: torch.dtype) -> None:
    """There in groups of 32 outputs in 16 bits, whose second half has the second selector."""
    random = np.random.default_rng(0)
    outputs, depth = 64, 256
    matrix = weight("dense", element, (outputs, depth), random)
    matrix = np.where(matrix == 0, matrix.dtype.type(1), matrix)  # two in every group
    kept = random.random((outputs, depth // 4, 4)).argsort(axis=2) < 2
    matrix = np.where(kept.reshape(matrix.shape), matrix, matrix.dtype.type(0))
    ours = pack_two_of_four(matrix, element)
    convert = cutlass.sparse_semi_structured_from_dense_cutlass
    _, theirs = convert(torch.from_numpy(matrix).to(dtype))  # type: ignore[no-untyped-call]
    words = theirs.contiguous().view(torch.int32).numpy().view(np.uint32).reshape(-1)
    if element is Element.INT8:  # (steps, sixteen outputs, lanes)
        expected = words.reshape(depth // 64, outputs // 16, 32).transpose(1, 0, 2)
        np.testing.assert_array_equal(ours.metadata, expected.reshape(-1, 32))
        return
    lanes = words.reshape(depth // 32, outputs // 32, 8, 2, 2)  # step, 32 outputs, g, half, 16
    own = ours.metadata.reshape(outputs // 32, 2, depth // 64, 8, 2, 2)  # ..., step of two, 16
    np.testing.assert_array_equal(
        own.transpose(2, 4, 0, 3, 1, 5).reshape(depth // 32, outputs // 32, 8, 2, 2), lanes
    )


def test_blocks_that_are_zero_are_not_stored() -> None:
    matrix = np.zeros((48, 100), np.float32)
    matrix[20, 40] = matrix[40, 99] = matrix[47, 1] = 1
    packed = pack_blocks(matrix, Element.FP16, 16)
    np.testing.assert_array_equal(packed.starts, [0, 0, 1, 3])
    np.testing.assert_array_equal(packed.kept, [1, 0, 3])
    assert packed.values.shape == (3, 2, 32, 4)
    halved = pack_blocks(matrix, Element.FP16, 32)
    np.testing.assert_array_equal(halved.starts, [0, 1, 3])
    assert halved.values.shape == (6, 2, 32, 4)


def test_stored_bytes_follow_the_zeros() -> None:
    random = np.random.default_rng(1)
    size = (256, 1024)
    dense = pack_dense(weight("dense", Element.FP16, size, random), Element.FP16)
    assert dense.stored_bytes == 256 * 1024 * 2
    sparse = pack_two_of_four(weight("2:4", Element.FP16, size, random), Element.FP16)
    assert sparse.stored_bytes == dense.stored_bytes * 9 // 16
    integers = pack_two_of_four(weight("2:4", Element.INT8, size, random), Element.INT8)
    assert integers.stored_bytes == 256 * 1024 * 5 // 8


def test_what_does_not_fit_is_refused_with_its_place() -> None:
    matrix = np.zeros((20, 64), np.float32)
    matrix[17, 40:43] = 1
    with pytest.raises(CompileError, match="output 17 has more than 2 non-zeros in weights 40 to"):
        pack_two_of_four(matrix, Element.BF16)
    with pytest.raises(CompileError, match="beyond fp16's range"):
        pack_dense(matrix * 1e6, Element.FP16)
    with pytest.raises(CompileError, match="not from float64"):
        pack_dense(matrix.astype(np.float64), Element.FP16)  # type: ignore[arg-type]
    with pytest.raises(CompileError, match="65537 features"):
        pack_dense(np.ones((1, 65_537), np.int8), Element.INT8)
    with pytest.raises(CompileError, match="blocks of 8 outputs"):
        pack_blocks(matrix, Element.FP16, 8)


@pytest.mark.parametrize(
    ("pattern", "element", "reason"),
    [
        ("dense", Element.FP16, ""),
        ("2:4", Element.INT8, ""),
        ("1:4", Element.FP16, "not of 1:4"),
        ("unstructured@0.9", Element.FP16, "lie between others"),
        ("block32x32@0.5", Element.FP16, ""),
        ("block48x64@0.5", Element.INT8, ""),
        ("block32x32@0.5", Element.INT8, "by 64 weights in int8"),
        ("block1x4@0.5", Element.FP16, "of 16 outputs by 32 weights"),
    ],
)
def test_a_pattern_without_a_kernel_says_why(pattern: str, element: Element, reason: str) -> None:
    said = why_not_on_tensor_cores(parse_pattern(pattern), element)
    assert bool(said) == bool(reason)
    assert reason in said
    if reason:
        with pytest.raises(CompileError):
            pack(np.ones((32, 64), np.float32), parse_pattern(pattern), element)
