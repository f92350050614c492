"""Weights with the zeros of each structure, and what layers of them compute, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from autosparse.levels import Pattern
from autosparse.levels.bf16 import bf16_bits, from_bf16
from autosparse.levels.pattern import parse_pattern
from backends.cuda_kernels.packing import PackedWeight
from backends.cuda_kernels.patterns import pack
from backends.cuda_kernels.tiles import Element

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
EXACT = 4e-6
"""Largest error of sums in fp32, of the sum of the absolute products."""
LAST_DIGIT = {"fp32": 0.0, "fp16": 2.0**-11, "bf16": 2.0**-8}
"""What rounding an output takes of it at most."""


def pattern_of(structure: str, element: Element) -> Pattern:
    """`dense`, `2:4`, or blocks of so many rows (`16`, `32`), half of which are zero."""
    if structure.isdigit():
        return parse_pattern(f"block{structure}x{element.step}@0.5")
    return parse_pattern(structure)


def weight(
    structure: str, element: Element, shape: tuple[int, int], random: np.random.Generator
) -> Array:
    """(outputs, depth), float32 or int8, with the zeros of a structure."""
    drawn: Array = random.standard_normal(shape).astype(np.float32)
    if element is Element.INT8:
        drawn = random.integers(-128, 128, shape, np.int8)
    if structure == "dense":
        return drawn
    return np.where(_kept(structure, element, shape, random), drawn, drawn.dtype.type(0))


def _kept(
    structure: str, element: Element, shape: tuple[int, int], random: np.random.Generator
) -> Array:
    outputs, depth = shape
    if structure == "2:4":  # from none to two in a group
        order = random.random((outputs, -(-depth // 4), 4)).argsort(axis=2)
        kept = order < random.integers(0, 3, (outputs, -(-depth // 4), 1))
        return kept.reshape(outputs, -1)[:, :depth]
    rows, columns = int(structure), element.step
    blocks = random.random((-(-outputs // rows), -(-depth // columns))) < 0.5
    blocks[0] = False  # a whole row of blocks without any
    wide: Array = blocks.repeat(rows, axis=0).repeat(columns, axis=1)
    return wide[:outputs, :depth]


def packed(matrix: Array, structure: str, element: Element) -> PackedWeight:
    """The weight for the kernels."""
    return pack(matrix, pattern_of(structure, element), element)


def rounded(values: Floats, element: Element) -> npt.NDArray[np.float64]:
    """What becomes of real numbers in 16 bits."""
    if element is Element.FP16:
        return values.astype(np.float16).astype(np.float64)
    return from_bf16(bf16_bits(values)).astype(np.float64)


def assert_near(
    got: Floats, x: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64], bias: Floats,
    output_type: str = "fp32",
) -> None:  # fmt: skip
    """Compare with a product in double precision, relative to the size of its terms."""
    expected = x @ matrix.T + bias
    bound = EXACT * (np.abs(x) @ np.abs(matrix).T + np.abs(bias)) + 1e-30
    assert got.shape == expected.shape
    assert np.all(np.abs(got - expected) <= bound + LAST_DIGIT[output_type] * np.abs(expected))
