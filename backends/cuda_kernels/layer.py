"""A packed layer with what follows it, as the kernels are told of it; and how they are started."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autosparse.errors import CompileError
from backends.cuda_kernels.packing import PackedWeight
from backends.cuda_kernels.tiles import Element, Tile, kernel_name, tile_for
from backends.kernels.sparse_layer import Activation, Quantization

Array = npt.NDArray[Any]

NUMBERS = {"fp32": 0, "fp16": 1, "bf16": 2, "uint8": 3}
"""Number formats of inputs and outputs; as in `csrc/linear.h`."""
_MOST_BLOCKS_Y, _MOST_BLOCKS_X = 65_535, 2**31 - 1


class Parameters(ctypes.Structure):
    """`AsLinear` of `csrc/linear.h`."""

    _fields_ = [
        ("input", c_void_p), ("output", c_void_p), ("values", c_void_p), ("metadata", c_void_p),
        ("starts", c_void_p), ("kept", c_void_p), ("bias", c_void_p), ("scales", c_void_p),
        ("offsets", c_void_p), ("rows", c_int64), ("outputs", c_int32), ("depth", c_int32),
        ("steps", c_int32), ("input_type", c_int32), ("output_type", c_int32),
        ("activation", c_int32), ("low", c_float), ("high", c_float), ("input_step", c_float),
        ("output_step", c_float), ("input_zero", c_int32), ("output_zero", c_int32),
    ]  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """How a kernel is started."""

    kernel: str
    """Its symbol."""
    grid: tuple[int, int]
    """Blocks of tokens, and of outputs."""
    threads: int
    """In a block."""
    shared_bytes: int
    """Dynamic shared memory of a block."""


@dataclass(frozen=True)
class Call:
    """One run: where its activations lie, in the memory that the kernel reads."""

    rows: int
    input: int
    """Address of (rows, depth)."""
    output: int
    """Address of (rows, outputs)."""
    input_type: str = "fp32"
    """Of `NUMBERS`. uint8 is on the layer's grid."""
    output_type: str = "fp32"


@dataclass(frozen=True)
class LinearLayer:
    """activation(input @ weight.T + bias)."""

    weight: PackedWeight
    bias: npt.NDArray[np.float32] | None = None
    """(outputs,)"""
    activation: Activation = Activation.NONE
    clip: tuple[float, float] = (0.0, 0.0)
    quantization: Quantization | None = None
    """Grids of the integers; an int8 weight has one, and others where uint8 goes in or out."""

    def __post_init__(self) -> None:
        if self.weight.element is Element.INT8 and self.quantization is None:
            raise CompileError(
                "an int8 weight has no steps", hint="give the grids of its integers with it"
            )

    def arrays(self) -> dict[str, Array]:
        """What must lie in the memory that the kernel reads, by the names of the parameters."""
        weight, grid = self.weight, self.quantization
        found: dict[str, Array | None] = {
            "values": weight.values, "metadata": weight.metadata, "starts": weight.starts,
            "kept": weight.kept, "bias": self.bias,
        }  # fmt: skip
        if grid is not None and weight.sums is not None:
            found["scales"] = (grid.weight_steps * np.float32(grid.input_step)).astype(np.float32)
            found["offsets"] = (weight.sums * grid.input_zero).astype(np.int32)
        return {name: array for name, array in found.items() if array is not None and array.size}

    def parameters(self, addresses: Mapping[str, int], call: Call) -> Parameters:
        """What a kernel is called with.

        Args:
            addresses: of each of `arrays()`.
            call: the run.

        Raises:
            CompileError: a grid is needed and not there.
        """
        grid = self.quantization
        if grid is None and "uint8" in (call.input_type, call.output_type):
            raise CompileError("uint8 activations need a grid", hint="give the layer its grids")
        if call.output_type == "uint8" and (grid is None or grid.output_step is None):
            raise CompileError("uint8 outputs need a grid", hint="give the layer an output_step")
        given = Parameters(
            input=call.input, output=call.output, rows=call.rows, outputs=self.weight.outputs,
            depth=self.weight.depth, steps=self.weight.steps,
            input_type=NUMBERS[call.input_type], output_type=NUMBERS[call.output_type],
            activation=int(self.activation), low=self.clip[0], high=self.clip[1],
            input_step=1.0, output_step=1.0, **addresses,
        )  # fmt: skip
        if grid is not None:
            given.input_step, given.input_zero = grid.input_step, grid.input_zero
            given.output_step, given.output_zero = grid.output_step or 1.0, grid.output_zero
        return given

    def launch(self, rows: int, tile: Tile | None = None) -> Launch:
        """How to start a kernel for so many rows of activations, at least one.

        Args:
            rows: of the activations.
            tile: of those that the structure has; the one for so many rows where it is left out.

        Raises:
            CompileError: there are more outputs or rows than one launch takes.
        """
        weight = self.weight
        tile = tile or tile_for(rows, weight.structure, weight.block_rows)
        grid = (-(-rows // tile.rows), -(-weight.outputs // (16 * tile.outputs)))
        if grid[0] > _MOST_BLOCKS_X or grid[1] > _MOST_BLOCKS_Y:
            raise CompileError(
                f"{rows} rows of {weight.outputs} outputs are more than one launch takes"
            )
        name = kernel_name(weight.element, weight.structure, tile)
        return Launch(name, grid, tile.threads, tile.shared_bytes)
