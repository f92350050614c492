"""Every kernel for GPUs, emulated, against a product in double precision."""

from __future__ import annotations

import ctypes
import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autosparse.levels.bf16 import bf16_bits, from_bf16
from backends.cuda_kernels.layer import LinearLayer
from backends.cuda_kernels.tiles import Element, kernel_names
from backends.kernels.sparse_layer import Activation, Quantization
from tests.cuda_kernels.emulated import ORDERS, Array, Emulated, unaligned
from tests.cuda_kernels.weights import Floats, assert_near, packed, rounded, weight

STRUCTURES = ("dense", "2:4", "16", "32")
HALVES = (Element.FP16, Element.BF16)
SHAPES = ((1, 1), (33, 50), (70, 200))
ROWS = (1, 8, 13, 40, 131)
"""Of every tile, whole fragments and parts."""


def bits_of(x: Floats, element: Element) -> Array:
    return x.astype(np.float16) if element is Element.FP16 else bf16_bits(x)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("element", HALVES, ids=lambda e: e.value)
def test_it_is_the_matrix_product(emulation: ctypes.CDLL, element: Element, structure: str) -> None:
    random = np.random.default_rng(0)
    for (outputs, depth), rows in itertools.product(SHAPES, ROWS):
        if rows > 100 and (outputs, depth) == (33, 50) and element is Element.BF16:
            continue
        matrix = weight(structure, element, (outputs, depth), random)
        bias = random.standard_normal(outputs).astype(np.float32)
        run = Emulated(emulation, LinearLayer(packed(matrix, structure, element), bias))
        x = random.standard_normal((rows, depth)).astype(np.float32)
        half = depth % 8 == 0  # those take the way without conversion
        got = run(bits_of(x, element) if half else x, element.value if half else "fp32")
        assert_near(got, rounded(x, element), rounded(matrix, element), bias)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_integer_sums_are_exact(emulation: ctypes.CDLL, structure: str) -> None:
    random = np.random.default_rng(1)
    for (outputs, depth), rows in itertools.product(((1, 1), (37, 208)), (1, 8, 13, 40, 131)):
        matrix = weight(structure, Element.INT8, (outputs, depth), random)
        steps = random.uniform(0.001, 0.01, outputs).astype(np.float32)
        grid = Quantization(0.02, 97, steps)
        layer = LinearLayer(packed(matrix, structure, Element.INT8), quantization=grid)
        x = random.integers(0, 256, (rows, depth), np.uint8)
        sums = (x.astype(np.int64) - 97) @ matrix.T.astype(np.int64)
        expected = sums.astype(np.float32) * (steps * np.float32(0.02))
        np.testing.assert_array_equal(Emulated(emulation, layer)(x, "uint8"), expected)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 1 << 30), outputs=st.integers(1, 80), depth=st.integers(1, 150),
    rows=st.integers(1, 40), structure=st.sampled_from(STRUCTURES), element=st.sampled_from(HALVES),
    order=st.sampled_from(sorted(ORDERS)),
)  # fmt: skip
def test_it_is_the_matrix_product_of_any_size(
    emulation: ctypes.CDLL, seed: int, outputs: int, depth: int, rows: int, structure: str,
    element: Element, order: str,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    matrix = weight(structure, element, (outputs, depth), random)
    x = random.standard_normal((rows, depth)).astype(np.float32)
    got = Emulated(emulation, LinearLayer(packed(matrix, structure, element)), order)(x, "fp32")
    nothing = np.zeros(outputs, np.float32)
    assert_near(got, rounded(x, element), rounded(matrix, element), nothing)


def test_the_shapes_take_every_kernel() -> None:
    """So nothing of what is compiled is untested."""
    taken = set()
    for element, structure, rows in itertools.product(Element, STRUCTURES, ROWS):
        matrix = weight(structure, element, (70, 200), np.random.default_rng(2))
        grid = Quantization(1, 0, np.ones(70, np.float32))
        layer = LinearLayer(packed(matrix, structure, element), quantization=grid)
        taken.add(layer.launch(rows).kernel)
    assert taken == {name for element in Element for name in kernel_names(element)}


@pytest.mark.parametrize("order", sorted(ORDERS))
@pytest.mark.parametrize("structure", ["dense", "2:4", "32"])
def test_the_order_of_threads_changes_nothing(
    emulation: ctypes.CDLL, structure: str, order: str
) -> None:
    """A barrier that is missing would show: warps run as far ahead of others as they may."""
    random = np.random.default_rng(3)
    matrix = weight(structure, Element.FP16, (40, 1800), random)
    layer = LinearLayer(packed(matrix, structure, Element.FP16))
    for rows in (3, 20):
        halves = random.standard_normal((rows, 1800)).astype(np.float16)
        expected = Emulated(emulation, layer)(halves, "fp16")
        got = Emulated(emulation, layer, order)(halves, "fp16")
        np.testing.assert_array_equal(got, expected)
    x = random.standard_normal((130, 330)).astype(np.float32)
    short = LinearLayer(packed(matrix[:, :330], structure, Element.FP16))
    got = Emulated(emulation, short, order)(x, "fp32")
    wanted = rounded(x, Element.FP16), rounded(matrix[:, :330], Element.FP16)
    assert_near(got, *wanted, np.zeros(40, np.float32))


def test_activations_need_not_be_aligned(emulation: ctypes.CDLL) -> None:
    random = np.random.default_rng(4)
    for element, depth in itertools.product(Element, (1, 31, 64, 77)):
        matrix = weight("2:4", element, (19, depth), random)
        grid = Quantization(0.1, 3, np.ones(19, np.float32))
        layer = LinearLayer(packed(matrix, "2:4", element), quantization=grid)
        integers = random.integers(0, 256, (9, depth), np.uint8)
        x = integers if element is Element.INT8 else bits_of(integers.astype(np.float32), element)
        kind = "uint8" if element is Element.INT8 else element.value
        expected = Emulated(emulation, layer)(x, kind)
        got = Emulated(emulation, layer, place_input=unaligned)(x, kind)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("rows", [5, 20])
def test_not_a_number_stays_in_its_row(emulation: ctypes.CDLL, structure: str, rows: int) -> None:
    random = np.random.default_rng(5)
    matrix = weight(structure, Element.FP16, (35, 90), random)
    run = Emulated(emulation, LinearLayer(packed(matrix, structure, Element.FP16)))
    x = random.standard_normal((rows, 90)).astype(np.float32)
    clean = run(x, "fp32")
    for bad in (np.nan, np.inf, -np.inf):
        spoilt = x.copy()
        spoilt[rows // 2] = bad
        got = run(spoilt, "fp32")
        others = np.arange(rows) != rows // 2
        np.testing.assert_array_equal(got[others], clean[others])
        full = np.abs(matrix).sum(axis=1) > 0
        assert not np.isfinite(got[rows // 2, full]).any()


def test_what_is_not_stored_is_not_multiplied(emulation: ctypes.CDLL) -> None:
    matrix = np.zeros((16, 64), np.float32)
    matrix[:, [1, 2]] = 1
    pruned, elsewhere = np.zeros((2, 1, 64), np.float32)
    pruned[0, [0, 3]] = np.nan
    elsewhere[0, 40] = np.nan
    sparse, block = (
        Emulated(emulation, LinearLayer(packed(matrix, structure, Element.BF16)))
        for structure in ("2:4", "16")
    )
    np.testing.assert_array_equal(sparse(pruned, "fp32"), np.zeros((1, 16)))
    assert np.isnan(block(pruned, "fp32")).all()
    # a group of four without a non-zero has two zeros that are stored; a block without has none
    assert np.isnan(sparse(elsewhere, "fp32")).all()
    np.testing.assert_array_equal(block(elsewhere, "fp32"), np.zeros((1, 16)))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_weight_without_non_zeros_gives_the_bias(emulation: ctypes.CDLL, structure: str) -> None:
    bias = np.arange(35, dtype=np.float32)
    for rows in (2, 18):
        layer = LinearLayer(packed(np.zeros((35, 70), np.float32), structure, Element.FP16), bias)
        got = Emulated(emulation, layer)(np.ones((rows, 70), np.float32), "fp32")
        np.testing.assert_array_equal(got, np.tile(bias, (rows, 1)))


@pytest.mark.parametrize("activation", Activation, ids=lambda a: a.name)
def test_what_follows_the_product(emulation: ctypes.CDLL, activation: Activation) -> None:
    x = np.linspace(-100, 100, 64).reshape(4, 16).astype(np.float32)
    layer = LinearLayer(
        packed(np.eye(16, dtype=np.float32), "dense", Element.BF16), np.full(16, 0.5, np.float32),
        activation, (-1.0, 6.0),
    )  # fmt: skip
    got = Emulated(emulation, layer)(x, "fp32")
    wide = rounded(x, Element.BF16) + 0.5
    sigmoid = 1 / (1 + np.exp(-wide))
    error_function = np.vectorize(math.erf)
    expected = {
        Activation.NONE: wide, Activation.RELU: np.maximum(wide, 0),
        Activation.CLIP: np.clip(wide, -1, 6), Activation.SILU: wide * sigmoid,
        Activation.GELU: wide / 2 * (1 + error_function(wide / np.sqrt(2))),
    }[activation]  # fmt: skip
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("element", Element, ids=lambda e: e.value)
def test_every_number_format_goes_in_and_out(emulation: ctypes.CDLL, element: Element) -> None:
    random = np.random.default_rng(6)
    integers = random.integers(0, 256, (6, 40), np.uint8)
    real = (integers.astype(np.float32) - 100) * np.float32(0.5)  # exact in every format
    matrix = weight("2:4", element, (24, 40), random)
    if element is not Element.INT8:
        matrix = np.sign(matrix) * np.float32(0.25)
    steps = np.full(24, 0.25, np.float32)
    grid = Quantization(0.5, 100, steps, output_step=4.0, output_zero=128)
    run = Emulated(emulation, LinearLayer(packed(matrix, "2:4", element), quantization=grid))
    expected = real @ (matrix.astype(np.float32) * (0.25 if element is Element.INT8 else 1)).T
    given = {
        "fp32": real, "fp16": real.astype(np.float16), "bf16": bf16_bits(real), "uint8": integers,
    }  # fmt: skip
    for kind, x in given.items():
        np.testing.assert_array_equal(run(x, kind), expected)
    np.testing.assert_array_equal(run(real, "fp32", "fp16"), expected.astype(np.float16))
    np.testing.assert_array_equal(
        from_bf16(run(real, "fp32", "bf16")), from_bf16(bf16_bits(expected))
    )
    on_grid = np.clip(np.rint(expected / 4) + 128, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(run(real, "fp32", "uint8"), on_grid)
