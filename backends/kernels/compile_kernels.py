"""Compile TVMScript kernels to object files. Run in a process of its own.

A wrong intrinsic or processor makes LLVM abort the whole process, and TVM takes seconds to
import, so the product never imports this module: `library.py` runs it as
`python -m backends.kernels.compile_kernels ARCHITECTURE DIRECTORY PROCESSES`.

TVM is imported once, and each family of an instruction set is compiled in a fork of the process
that has it. So forks share what the libraries take, what compiling takes is given back with each
of them, and an object is the same whatever was compiled before it or beside it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from autosparse.parent_process import end_with_parent
from backends.without_torch import keeping_torch_out

with keeping_torch_out():
    import tvm

from backends.kernels.targets import InstructionSet, instruction_sets
from backends.kernels.tiles import KernelTile, compiled_for, tiles_for

_TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}


@dataclass(frozen=True)
class Piece:
    """The kernels of one family for one instruction set: one object file."""

    target: InstructionSet
    family: str
    tiles: tuple[KernelTile, ...]

    @property
    def name(self) -> str:
        """Of its file, without suffix."""
        return f"{self.target.identifier}_{self.family}"


def llvm_target(target: InstructionSet) -> dict[str, Any]:
    """What TVM calls an instruction set."""
    return {
        "kind": "llvm", "mtriple": _TRIPLES[target.architecture], "mcpu": target.llvm_cpu,
        "mattr": list(target.llvm_features),
    }  # fmt: skip


def pieces(architecture: str) -> list[Piece]:
    """Everything that is compiled for an architecture, what takes longest first."""
    found = [
        Piece(target, family, tiles)
        for target in instruction_sets(architecture)
        for family, tiles in compiled_for(target).items()
    ]
    return sorted(found, key=lambda piece: -len(piece.tiles))


def compile_piece(piece: Piece, directory: Path) -> None:
    """Write the object file of one piece."""
    functions = {tile.symbol(piece.target): tile.build(piece.target) for tile in piece.tiles}
    llvm = tvm.target.Target(llvm_target(piece.target))
    compiled = tvm.compile(tvm.IRModule(functions), target=llvm)
    compiled.mod.write_to_file(str(directory / f"{piece.name}.o"), "o")


def compile_at_once(waiting: Sequence[Piece], directory: Path, most: int) -> None:
    """Compile pieces in forks of this process, in their order, at most some at once.

    Raises:
        SystemExit: one of them failed and has said why; the others are stopped.
    """
    queue = list(waiting)
    running: list[ForkProcess] = []
    try:
        while queue or running:
            while queue and len(running) < most:
                running.append(_forked(queue.pop(0), directory))
            wait([process.sentinel for process in running])
            for process in [p for p in running if p.exitcode is not None]:
                if process.exitcode:
                    sys.exit(f"error: {process.name} ended with {process.exitcode}")
                running.remove(process)
    finally:
        for process in running:
            process.kill()


def kernel_table(architecture: str) -> str:
    """C source of the table that `csrc/kernel_call.c` searches."""
    declarations, rows = [], []
    for target in instruction_sets(architecture):
        for tile in tiles_for(target):
            symbol = f"__tvm_ffi_{tile.symbol(target)}"
            declarations.append(f"int {symbol}(void *, const void *, int32_t, void *);")
            rows.append(
                f'  {{"{target.name}", "{tile.family}", {tile.vectors}, {tile.rows}, {symbol}}},'
            )
    lines = [
        '#include "internal.h"', "", *dict.fromkeys(declarations), "",
        "const AsKernel as_kernels[] = {", *rows, "};",
        "const size_t as_kernel_count = sizeof as_kernels / sizeof *as_kernels;",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _forked(piece: Piece, directory: Path) -> ForkProcess:
    process = get_context("fork").Process(
        target=_compile_alone, args=(piece, directory, os.getpid()), name=piece.name
    )
    process.start()
    return process


def _compile_alone(piece: Piece, directory: Path, parent: int) -> None:
    end_with_parent(parent)
    compile_piece(piece, directory)


def main() -> None:
    """Write the objects and the table of all kernels of an architecture to a directory."""
    end_with_parent(os.getppid())
    architecture, directory, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    compile_at_once(pieces(architecture), directory, most)
    (directory / "kernel_table.c").write_text(kernel_table(architecture), encoding="utf-8")


if __name__ == "__main__":
    main()
