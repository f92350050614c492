"""Which kernels a library holds: every family in the tiles that may be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backends.kernels.families.broadcast import broadcast_fp32
from backends.kernels.targets import InstructionSet


@dataclass(frozen=True)
class KernelTile:
    """One kernel: a family, and how much of the output it holds in registers."""

    family: str
    vectors: int
    rows: int

    def symbol(self, target: InstructionSet) -> str:
        """Global symbol of the compiled function."""
        return f"as_{self.family}_v{self.vectors}_r{self.rows}_{target.identifier}"

    def build(self, target: InstructionSet) -> Any:
        """The TVMScript function for one instruction set."""
        return _FAMILIES[self.family](self.symbol(target), target, self.vectors, self.rows)


_Builder = Callable[[str, InstructionSet, int, int], Any]
_FAMILIES: dict[str, _Builder] = {
    "broadcast_fp32_u16": lambda symbol, target, vectors, rows: broadcast_fp32(
        symbol, target.lanes, vectors, rows, "uint16"
    ),
    "broadcast_fp32_i32": lambda symbol, target, vectors, rows: broadcast_fp32(
        symbol, target.lanes, vectors, rows, "int32"
    ),
}

TILES = tuple(
    KernelTile(family, vectors, rows)
    for family in ("broadcast_fp32_u16", "broadcast_fp32_i32")
    for vectors, rows in ((1, 2), (1, 4), (2, 2), (2, 4), (4, 1), (4, 2), (4, 4), (8, 1), (8, 2))
)
