"""Sparse int8 layers and what they compute, in integers and double precision, for tests."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from backends.kernels.sparse_layer import (
    Activation,
    KernelPlan,
    Quantization,
    SparseLayer,
    nonzero_runs,
)
from tests.kernels.fp32_layers import EndOfPage

Bytes = npt.NDArray[np.uint8]
Weight = npt.NDArray[np.int8]
Reals = npt.NDArray[np.float64]


def blocks_of_four(outputs: int, depth: int, zeros: float, random: np.random.Generator) -> Weight:
    """(outputs, depth) of which a share of blocks of 1x4 is zero; depth is a multiple of 4."""
    kept = np.repeat(random.random((outputs, depth // 4)) >= zeros, 4, axis=1)
    return drawn((outputs, depth), random) * kept.astype(np.int8)


def scattered(outputs: int, depth: int, zeros: float, random: np.random.Generator) -> Weight:
    """(outputs, depth) with a share of zeros; rows hold from none to all of it."""
    share = zeros * 2 * random.random((outputs, 1))
    kept = random.random((outputs, depth)) >= share
    return drawn((outputs, depth), random) * kept.astype(np.int8)


def n_of_m(
    outputs: int, depth: int, pattern: tuple[int, int], random: np.random.Generator
) -> Weight:
    """(outputs, depth) with N non-zeros at most in each M consecutive ones of a row."""
    most, group = pattern
    groups = -(-depth // group)
    rank = np.argsort(random.random((outputs, groups, group)), axis=2).argsort(axis=2)
    kept = (rank < most).reshape(outputs, groups * group)[:, :depth]
    return drawn((outputs, depth), random) * kept.astype(np.int8)


def drawn(shape: tuple[int, int], random: np.random.Generator) -> Weight:
    """Any weight, the extremes often."""
    made = random.integers(-128, 128, shape, dtype=np.int8)
    return np.where(random.random(shape) < 0.1, random.choice([-128, -127, 127]), made).astype("i1")


def bytes_of(rows: int, depth: int, random: np.random.Generator) -> Bytes:
    """(rows, depth) inputs, the extremes often."""
    made = random.integers(0, 256, (rows, depth), dtype=np.uint8)
    return np.where(random.random((rows, depth)) < 0.1, random.choice([0, 255]), made).astype("u1")


def integer_layer(
    matrix: Weight, run: int, zero: int = 0, group: int = 0, plan: KernelPlan | None = None
) -> SparseLayer:
    """A layer whose fp32 output is its sums: all steps are 1."""
    positions, values = nonzero_runs(matrix, run)
    grid = Quantization(1.0, zero, np.ones(len(matrix), np.float32))
    outputs, depth = matrix.shape
    return SparseLayer(
        outputs, depth, positions=positions, values=values, run=run, group=group,
        quantization=grid, plan=plan or KernelPlan(),
    )  # fmt: skip


def sums(x: Bytes, matrix: Weight, zero: int) -> npt.NDArray[np.int64]:
    """sum_k (x[m, k] - zero) * w[n, k], exactly."""
    exact: Reals = (x.astype(np.float64) - zero) @ matrix.astype(np.float64).T
    return exact.astype(np.int64)


def with_grid(
    layer: SparseLayer, random: np.random.Generator, to_uint8: bool, activation: Activation
) -> SparseLayer:
    """The same with steps, bias and activation, so that its values lie in about -10 to 10."""
    assert layer.quantization is not None
    outputs = layer.outputs
    steps = (random.random(outputs) * 0.01 + 0.001).astype(np.float32)
    grid = Quantization(
        0.5 / np.sqrt(layer.depth), layer.quantization.input_zero, steps,
        0.0625 if to_uint8 else None, int(random.integers(0, 256)) if to_uint8 else 0,
    )  # fmt: skip
    bias = random.standard_normal(outputs).astype(np.float32)
    return dataclasses.replace(
        layer, quantization=grid, bias=bias, activation=activation, clip=(-1.0, 4.0)
    )


def real_output(
    layer: SparseLayer, x: Bytes, matrix: Weight, residual: npt.NDArray[np.float32] | None = None
) -> Reals:
    """activation(sums * steps + bias + residual), in double precision, not yet on a grid."""
    grid = layer.quantization
    assert grid is not None
    step = np.float64(np.float32(grid.input_step)) * grid.weight_steps.astype(np.float64)
    values = sums(x, matrix, grid.input_zero) * step
    for term in (layer.bias, residual):
        values = values if term is None else values + term
    if layer.activation is Activation.RELU:
        return np.maximum(values, 0)
    if layer.activation is Activation.CLIP:
        return np.clip(values, *layer.clip)
    if layer.activation is Activation.SILU:
        return np.asarray(values / (1 + np.exp(-values)))
    return np.asarray(values)


def on_grid(layer: SparseLayer, values: Reals) -> npt.NDArray[np.int64]:
    """Round half to even and saturate, as QuantizeLinear."""
    grid = layer.quantization
    assert grid is not None
    assert grid.output_step is not None
    steps = np.rint(values / np.float64(np.float32(grid.output_step)))
    return np.asarray(np.clip(steps + grid.output_zero, 0, 255), np.int64)


def at_end_of_page(pages: EndOfPage, made: Bytes) -> Bytes:
    """A copy after whose last byte memory ends."""
    memory = pages.empty((-(-max(made.size, 1) // 4),)).view(np.uint8)
    placed = memory[memory.size - made.size :].reshape(made.shape)
    placed[:] = made
    return placed


def one_off(made: Bytes) -> Bytes:
    """A copy at an odd address."""
    memory = np.empty(made.size + 2, np.uint8)
    skip = 1 - memory.ctypes.data % 2
    placed = memory[skip : skip + made.size].reshape(made.shape)
    placed[:] = made
    return placed
