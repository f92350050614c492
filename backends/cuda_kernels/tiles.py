"""What is compiled: a kernel for each number format, structure and tile; and which one to take.

Like the kernels for processors: shapes are arguments, tiles are compiled. The constants are a
first choice by arithmetic (what a multiprocessor must have under way, what registers hold); none
has been measured on a GPU.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

STEP_BYTES = 64
"""Activations of a token in one step of the depth."""


class Element(enum.Enum):
    """What the tensor cores multiply."""

    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    """int8 weights, uint8 activations, sums in int32."""

    @property
    def bytes(self) -> int:
        """Of one weight or activation."""
        return 1 if self is Element.INT8 else 2

    @property
    def step(self) -> int:
        """Features in one step of the depth."""
        return STEP_BYTES // self.bytes


class Structure(enum.Enum):
    """Which weights are stored."""

    DENSE = "dense"
    TWO_OF_FOUR = "two_of_four"
    BLOCKS = "blocks"


@dataclass(frozen=True)
class Tile:
    """How a block of threads divides its work; the names of the fields are those of the C side."""

    name: str
    outputs: int
    """Fragments of 16 outputs."""
    tokens: int
    """Fragments of 8 tokens in a warp."""
    warps_tokens: int
    """Warps with tokens of their own."""
    warps_depth: int
    """Warps with a part of the depth each."""
    run: int
    """Steps of the depth that a warp does at a time; even, since two may share metadata."""
    stages: int
    """Chunks of activations in shared memory."""
    most_rows: int | None = None
    """Up to how many rows of activations it is taken; None for the last one."""

    @property
    def threads(self) -> int:
        """In a block."""
        return 32 * self.warps_tokens * self.warps_depth

    @property
    def rows(self) -> int:
        """Tokens of a block."""
        return 8 * self.tokens * self.warps_tokens

    @property
    def shared_bytes(self) -> int:
        """Of activations in stages, and, when they are done with, of sums."""
        pitch = self.warps_depth * self.run * STEP_BYTES + 16
        sums = self.warps_depth * self.rows * (16 * self.outputs + 4) * 4
        return max(self.stages * self.rows * pitch, sums)


# Few rows are bound by the weights' bytes: eight warps stream parts of the depth. Many rows are
# bound by the tensor cores: each fragment of weights meets eight fragments of tokens.
_FEW = Tile("few", 1, 1, 1, 8, 4, 3, most_rows=16)
_SOME = Tile("some", 2, 4, 1, 4, 2, 3, most_rows=128)
_MANY = Tile("many", 4, 8, 4, 1, 2, 3)
_FEW_BY_32 = Tile("few_by_32", 2, 1, 1, 8, 2, 3, most_rows=16)
_MANY_BY_16 = Tile("many_by_16", 1, 8, 4, 1, 2, 3)
_MANY_BY_32 = Tile("many_by_32", 2, 8, 4, 1, 2, 3)

BLOCK_ROWS = (16, 32)
"""Outputs in a block that there are kernels for."""


def tiles(structure: Structure, block_rows: int = 0) -> tuple[Tile, ...]:
    """Those of a structure, in the order of the rows that they are for.

    Args:
        structure: of the weight.
        block_rows: outputs in a block, of `BLOCK_ROWS`; of no other structure.
    """
    if structure is not Structure.BLOCKS:
        return (_FEW, _SOME, _MANY)
    return {16: (_FEW, _MANY_BY_16), 32: (_FEW_BY_32, _MANY_BY_32)}[block_rows]


def tile_for(rows: int, structure: Structure, block_rows: int = 0) -> Tile:
    """The tile for a number of rows of activations."""
    choices = tiles(structure, block_rows)
    return next(t for t in choices if t.most_rows is None or rows <= t.most_rows)


def kernel_name(element: Element, structure: Structure, tile: Tile) -> str:
    """The kernel's symbol."""
    return f"as_{element.value}_{structure.value}_{tile.name}"


def kernel_names(element: Element) -> list[str]:
    """Symbols of all kernels of a number format."""
    return [kernel_name(element, structure, tile) for structure, tile in _all()]


def kernel_source(element: Element) -> str:
    """Text of the file with all kernels of a number format, for any compiler of C or CUDA."""
    lines = ["/* Written by tiles.py. */", '#include "linear.h"', *_of_element(element)]
    for structure, tile in _all():
        own = _of_tile(element, structure, tile)
        lines += ["", *(f"#define {name} {value}" for name, value in own.items())]
        lines += ['#include "linear_tile.h"', *(f"#undef {name}" for name in own)]
    return "\n".join(lines) + "\n"


def _all() -> Iterator[tuple[Structure, Tile]]:
    for structure in (Structure.DENSE, Structure.TWO_OF_FOUR):
        for tile in tiles(structure):
            yield structure, tile
    for rows in BLOCK_ROWS:
        for tile in tiles(Structure.BLOCKS, rows):
            yield Structure.BLOCKS, tile


def _of_element(element: Element) -> list[str]:
    integers = element is Element.INT8
    return [
        f"#define AS_ELEMENT {'AS_UINT8' if integers else f'AS_{element.name}'}",
        f"#define AS_ELEMENT_BYTES {element.bytes}",
        f"#define AS_SUM {'int32_t' if integers else 'float'}",
        f"#define AS_REAL {'as_real_int32' if integers else 'as_real_fp32'}",
        f"#define AS_PAIRED {int(not integers)}",
    ]


def _of_tile(element: Element, structure: Structure, tile: Tile) -> dict[str, str | int]:
    sparse = structure is Structure.TWO_OF_FOUR
    return {
        "AS_NAME": kernel_name(element, structure, tile),
        "AS_MMA": f"as_mma_sparse_{element.value}" if sparse else f"as_mma_{element.value}",
        "AS_TWO_OF_FOUR": int(sparse),
        "AS_BLOCKS": int(structure is Structure.BLOCKS),
        "AS_OUTPUTS": tile.outputs,
        "AS_TOKENS": tile.tokens,
        "AS_WARPS_TOKENS": tile.warps_tokens,
        "AS_WARPS_DEPTH": tile.warps_depth,
        "AS_RUN": tile.run,
        "AS_STAGES": tile.stages,
    }
