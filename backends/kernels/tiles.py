"""Which kernels a library holds: every family in the tiles that may be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backends.kernels.families.broadcast import broadcast_fp32
from backends.kernels.families.broadcast_int8 import (
    Dot,
    broadcast_int8,
    dot_by_bytes,
    dot_by_pairs,
    dot_by_sdot,
    dot_by_vnni,
)
from backends.kernels.families.convolution import convolution_fp32
from backends.kernels.families.convolution_int8 import convolution_int8
from backends.kernels.families.dense import dense_fp32, dense_int8
from backends.kernels.families.permute import permute_fp32
from backends.kernels.families.permute_int8 import permute_int8
from backends.kernels.targets import InstructionSet


@dataclass(frozen=True)
class KernelTile:
    """One kernel: a family, and how much of the output it holds in registers."""

    family: str
    vectors: int
    rows: int

    def symbol(self, target: InstructionSet) -> str:
        """Global symbol of the compiled function."""
        own = target if self.family in _OF_BYTES else target.extended()
        return f"as_{self.family}_v{self.vectors}_r{self.rows}_{own.identifier}"

    def build(self, target: InstructionSet) -> Any:
        """The TVMScript function for one instruction set."""
        return _FAMILIES[self.family](self.symbol(target), target, self.vectors, self.rows)


_SIGN_BITS = {"x86_64": 0, "aarch64": -0x7F7F7F80}
"""0x80808080 as int32 where bytes of one sign only are multiplied; see `csrc/int8.h`."""
_Builder = Callable[[str, InstructionSet, int, int], Any]
_FAMILIES: dict[str, _Builder] = {
    "conv_fp32": lambda symbol, target, vectors, rows: convolution_fp32(
        symbol, target.lanes, vectors, rows
    ),
    # offsets in registers, so that one packed weight serves tiles of every width
    "linear_fp32": lambda symbol, target, vectors, rows: broadcast_fp32(
        symbol, target.lanes, vectors, rows, "uint16", unit=vectors
    ),
    "permute_fp32": lambda symbol, target, vectors, rows: permute_fp32(
        symbol, target.lanes, vectors, rows
    ),
    "broadcast_int8": lambda symbol, target, vectors, rows: broadcast_int8(
        symbol, target.lanes, vectors, rows, _dot_for(target)
    ),
    "conv_int8": lambda symbol, target, vectors, rows: convolution_int8(
        symbol, target.lanes, vectors, rows, _dot_for(target)
    ),
    "permute_int8": lambda symbol, target, vectors, rows: permute_int8(symbol, vectors, rows),
    "dense_fp32": lambda symbol, target, vectors, rows: dense_fp32(
        symbol, target.lanes, vectors, rows
    ),
    "dense_int8": lambda symbol, target, vectors, rows: dense_int8(
        symbol, target.lanes, vectors, rows, _dot_for(target), _SIGN_BITS[target.architecture]
    ),
}
_AVX512 = ("avx512", "avx512-vnni")
_NEEDED: dict[str, tuple[str, ...]] = {
    "permute_fp32": ("avx2", "avx2-vnni", *_AVX512),
    "permute_int8": ("avx512-vnni",),
}
"""Instruction sets of the families that not every one of them can run."""
_OF_BYTES = ("broadcast_int8", "conv_int8", "permute_int8", "dense_int8")
"""Families that multiply bytes."""

TILES = tuple(
    KernelTile("linear_fp32", vectors, rows)
    for rows, widths in ((2, (1, 2, 3, 4, 6, 8)), (4, (1, 2, 3, 4, 6)))
    for vectors in widths
)
TILES += tuple(
    KernelTile("permute_fp32", vectors, rows) for vectors in (2, 4) for rows in range(1, 9)
)

TILES += tuple(
    KernelTile("broadcast_int8", vectors, rows) for vectors in (1, 2, 4, 8) for rows in (2, 4, 8)
)
TILES += tuple(
    KernelTile("permute_int8", vectors, rows)
    for vectors, most in ((2, 8), (4, 5))
    for rows in range(1, most + 1)
)
# convolutions: a tile of every width, so that no position of an image is wasted
TILES += tuple(
    KernelTile(family, vectors, 1)
    for family, most in (("conv_fp32", 14), ("conv_int8", 8))
    for vectors in range(1, most + 1)
)
# dense ones: four channels share what they load
TILES += tuple(
    KernelTile(family, vectors, 4)
    for family in ("conv_fp32", "conv_int8")
    for vectors in range(1, 7)
)
# dense products: as many rows as registers hold the sums of, and each smaller number for the rest
TILES += tuple(
    KernelTile(family, vectors, rows)
    for family in ("dense_fp32", "dense_int8")
    for vectors in (1, 2, 3, 4)
    for rows in range(1, 7)
)


def _dot_for(target: InstructionSet) -> Dot:
    if target.architecture == "aarch64":
        return dot_by_sdot if target.name == "neon-dotprod" else dot_by_bytes
    return dot_by_vnni if target.name.endswith("-vnni") else dot_by_pairs


def tiles_for(target: InstructionSet) -> tuple[KernelTile, ...]:
    """The tiles that an instruction set can run."""
    return tuple(t for t in TILES if target.name in _NEEDED.get(t.family, (target.name,)))


def compiled_for(target: InstructionSet) -> dict[str, tuple[KernelTile, ...]]:
    """Its tiles by family, without those that it shares with the one that it extends."""
    shares = target.extended() is not target
    found: dict[str, tuple[KernelTile, ...]] = {}
    for tile in tiles_for(target):
        if tile.family in _OF_BYTES or not shares:
            found[tile.family] = (*found.get(tile.family, ()), tile)
    return found
