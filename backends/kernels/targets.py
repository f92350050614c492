"""Instruction sets that kernels are compiled for, from the least to the most capable."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstructionSet:
    """One build of all kernels."""

    name: str
    """As `csrc/instruction_sets.c` spells it."""
    architecture: str
    lanes: int
    """fp32 numbers in a register."""
    llvm_cpu: str
    llvm_features: tuple[str, ...] = ()
    c_flags: tuple[str, ...] = ()
    """The same for gcc and clang; none where another one is extended, whose C code it is then."""
    extends: str = ""
    """One that multiplies bytes in another way: all else is that one's code, byte for byte."""

    @property
    def identifier(self) -> str:
        """The name as a C identifier."""
        return self.name.replace("-", "_")

    def compiler_flags(self, *, zig: bool) -> tuple[str, ...]:
        """Of a C compiler; zig spells LLVM's names with underscores."""
        cpu = self.llvm_cpu.replace("-", "_") + "".join(self.llvm_features)
        wide = ("-mprefer-vector-width=512",) if self.lanes == 16 else ()
        return (*((f"-mcpu={cpu}",) if zig else self.c_flags), *wide)

    def extended(self) -> InstructionSet:
        """The one that this one extends, or itself."""
        return next((s for s in INSTRUCTION_SETS if s.name == self.extends), self)


# x86-64-v4 rather than a product's name: LLVM prefers half registers on some of those.
INSTRUCTION_SETS = (
    InstructionSet("baseline", "x86_64", 4, "x86-64", c_flags=("-march=x86-64",)),
    InstructionSet("avx2", "x86_64", 8, "x86-64-v3", c_flags=("-march=x86-64-v3",)),
    InstructionSet("avx2-vnni", "x86_64", 8, "x86-64-v3", ("+avxvnni",), extends="avx2"),
    InstructionSet("avx512", "x86_64", 16, "x86-64-v4", c_flags=("-march=x86-64-v4",)),
    InstructionSet("avx512-vnni", "x86_64", 16, "x86-64-v4", ("+avx512vnni",), extends="avx512"),
    InstructionSet("neon", "aarch64", 4, "generic", ("+neon",), ("-mcpu=generic",)),
    InstructionSet(
        "neon-dotprod", "aarch64", 4, "generic", ("+neon", "+dotprod"), extends="neon"
    ),
)  # fmt: skip


def instruction_sets(architecture: str) -> tuple[InstructionSet, ...]:
    """Those of one architecture (`x86_64`, `aarch64`)."""
    return tuple(s for s in INSTRUCTION_SETS if s.architecture == architecture)
