"""Sparse int8 matrix products in N:M patterns against integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.sparse_layer import Family, KernelPlan
from tests.kernels.fp32_layers import instruction_sets
from tests.kernels.int8_layers import bytes_of, integer_layer, n_of_m, sums

PATTERNS = ((2, 4), (1, 4), (2, 8), (4, 8), (1, 8), (3, 4), (2, 16), (1, 32))
PLANS = (KernelPlan(), KernelPlan(Family.PERMUTE, 2, 7), KernelPlan(Family.PERMUTE, 4, 5))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_sums_are_exact(library: KernelLibrary, pattern: tuple[int, int], plan: KernelPlan) -> None:
    random = np.random.default_rng(0)
    best = library.instruction_set
    for (outputs, depth), zero in itertools.product(
        [(1, 16), (15, 32), (16, 48), (65, 64), (130, 256), (40, 100), (8, 12)], (0, 131, 255)
    ):
        matrix = n_of_m(outputs, depth, pattern, random)
        for name in instruction_sets(library):
            library.force_instruction_set(name)
            packed = library.pack(integer_layer(matrix, 1, zero, pattern[1], plan))
            for rows in (0, 1, 2, 4, 9, 33, 150):
                x = bytes_of(rows, depth, random)
                np.testing.assert_array_equal(packed(x), sums(x, matrix, zero))
    library.force_instruction_set(best)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_groups_may_hold_fewer_non_zeros(library: KernelLibrary, pattern: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    matrix = n_of_m(50, 128, pattern, random)
    matrix[random.random(matrix.shape) < 0.3] = 0
    matrix[::7] = 0
    matrix[:, :20] = 0
    packed = library.pack(integer_layer(matrix, 1, 5, pattern[1]))
    for rows in (1, 20):
        x = bytes_of(rows, 128, random)
        np.testing.assert_array_equal(packed(x), sums(x, matrix, 5))


def test_a_pattern_that_was_promised_in_vain_is_computed_all_the_same(
    library: KernelLibrary,
) -> None:
    random = np.random.default_rng(2)
    matrix = n_of_m(33, 64, (4, 4), random)
    packed = library.pack(integer_layer(matrix, 1, 128, 4))
    x = bytes_of(19, 64, random)
    np.testing.assert_array_equal(packed(x), sums(x, matrix, 128))
