"""Every kernel on the GPU against a product in double precision, at odd sizes: before any timing.

The tests do the same in an emulator. What that cannot tell is whether the device does what the
emulator's author read in NVIDIA's tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from backends.cuda_kernels.cubin import cubin
from backends.cuda_kernels.driver import Device, Module
from backends.cuda_kernels.layer import LinearLayer
from backends.cuda_kernels.packing import pack_blocks, pack_dense, pack_two_of_four
from backends.cuda_kernels.tiles import BLOCK_ROWS, Element, Structure, kernel_name, tiles
from backends.kernels.sparse_layer import Activation, Quantization
from benchmarks.gpu_contestants import TYPES, OwnLayer

Array = npt.NDArray[Any]
_SHAPES = ((1, 1), (33, 50), (70, 200), (130, 1030), (256, 4096))
_ROWS = (1, 7, 16, 40, 131, 300)
_LARGEST_ERROR = 5e-5
"""Of the sum of the absolute products: tensor cores add up with fewer digits than fp32 has."""
_ZERO = 97


@dataclass(frozen=True)
class Check:
    """One kernel, over all sizes and number formats of its input."""

    check: str
    """The kernel."""
    error: float
    """The largest, of the sum of the absolute products."""
    problem: str = ""
    """What is wrong; empty where nothing is."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.check}: {self.problem or 'right'}, largest error {self.error:.1e}"


def checks(device: Device) -> Iterator[Check]:
    """All kernels, one after the other."""
    structures = [(Structure.DENSE, 0), (Structure.TWO_OF_FOUR, 0)]
    structures += [(Structure.BLOCKS, rows) for rows in BLOCK_ROWS]
    for element in Element:
        module = device.load(cubin(element, device.architecture))
        for structure, block_rows in structures:
            for index, tile in enumerate(tiles(structure, block_rows)):
                name = kernel_name(element, structure, tile)
                try:
                    worst = _worst(module, element, structure, block_rows, index)
                    problem = "" if worst <= _LARGEST_ERROR else "wrong"
                except Exception as error:  # a fault of the device ends all that follows, too
                    worst, problem = float("inf"), f"{type(error).__name__}: {error}"
                yield Check(name, worst if np.isfinite(worst) else 1e30, problem)


def _worst(
    module: Module, element: Element, structure: Structure, block_rows: int, index: int
) -> float:
    """The largest error of a tile over sizes and formats; infinite where a number is none."""
    random = np.random.default_rng(0)
    worst = 0.0
    for outputs, depth in _SHAPES:
        matrix = _matrix(structure, element, block_rows, (outputs, depth), random)
        bias = random.standard_normal(outputs).astype(np.float32)
        grid = Quantization(0.5, _ZERO, np.full(outputs, 0.25, np.float32))
        packed = {
            Structure.DENSE: lambda m: pack_dense(m, element),
            Structure.TWO_OF_FOUR: lambda m: pack_two_of_four(m, element),
            Structure.BLOCKS: lambda m: pack_blocks(m, element, block_rows),
        }[structure](matrix)
        layer = LinearLayer(packed, bias, Activation.RELU, quantization=grid)
        own = OwnLayer(layer, module, 1)
        tile = tiles(structure, block_rows)[index]
        for rows in _ROWS:
            integers = random.integers(0, 256, (rows, depth), np.uint8)
            real = (integers.astype(np.float32) - _ZERO) * np.float32(0.5)
            given = [("fp32", torch.from_numpy(real)), ("uint8", torch.from_numpy(integers))]
            if element is not Element.INT8:
                native = torch.from_numpy(real).to(TYPES[element])
                given = [given[0], (element.value, native)]
            for kind, x in given:
                got = own.run(x.cuda(), kind, tile, wide=True)(0).double().cpu().numpy()
                worst = max(worst, _error(got, real, _real(matrix, element), bias))
    return worst


def _matrix(
    structure: Structure, element: Element, block_rows: int, shape: tuple[int, int],
    random: np.random.Generator,
) -> Array:  # fmt: skip
    """(outputs, depth): quarters of small integers, exact in every format, and what is kept."""
    integers = random.integers(-100, 101, shape)
    outputs, depth = shape
    kept = np.ones((outputs, depth), bool)
    if structure is Structure.TWO_OF_FOUR:
        order = random.random((outputs, -(-depth // 4), 4)).argsort(axis=2)
        limit = random.integers(0, 3, (outputs, -(-depth // 4), 1))
        kept = (order < limit).reshape(outputs, -1)[:, :depth]
    elif structure is Structure.BLOCKS:
        blocks = random.random((-(-outputs // block_rows), -(-depth // element.step))) < 0.5
        kept = blocks.repeat(block_rows, 0).repeat(element.step, 1)[:outputs, :depth]
    dtype = np.int8 if element is Element.INT8 else np.float32
    scaled = integers if element is Element.INT8 else integers / 4
    return np.where(kept, scaled, 0).astype(dtype)


def _real(matrix: Array, element: Element) -> npt.NDArray[np.float64]:
    """The weight that a matrix stands for: an int8's step is a quarter."""
    return matrix.astype(np.float64) * (0.25 if element is Element.INT8 else 1.0)


def _error(got: Array, x: Array, weight: npt.NDArray[np.float64], bias: Array) -> float:
    wide = x.astype(np.float64)
    expected = np.maximum(wide @ weight.T + bias, 0)
    terms = np.abs(wide) @ np.abs(weight).T + np.abs(bias)
    worst = float((np.abs(got - expected) / np.maximum(terms, 1e-30)).max())
    return worst if np.isfinite(worst) else float("inf")
