"""Compile TVMScript kernels to object files. Run in a process of its own.

A wrong intrinsic or processor makes LLVM abort the whole process, and TVM takes seconds to
import, so the product never imports this module: `library.py` runs it as
`python -m backends.kernels.compile_kernels INSTRUCTION_SET OBJECT`.
"""

from __future__ import annotations

import sys
from typing import Any

import tvm

from backends.kernels.targets import INSTRUCTION_SETS, InstructionSet
from backends.kernels.tiles import tiles_for

_TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}


def llvm_target(target: InstructionSet) -> dict[str, Any]:
    """What TVM calls an instruction set."""
    return {
        "kind": "llvm", "mtriple": _TRIPLES[target.architecture], "mcpu": target.llvm_cpu,
        "mattr": list(target.llvm_features),
    }  # fmt: skip


def compile_object(target: InstructionSet, path: str) -> None:
    """Write one object file with every kernel for one instruction set."""
    functions = {tile.symbol(target): tile.build(target) for tile in tiles_for(target)}
    llvm = tvm.target.Target(llvm_target(target))
    compiled = tvm.compile(tvm.IRModule(functions), target=llvm)
    compiled.mod.write_to_file(path, "o")


if __name__ == "__main__":
    compile_object(next(s for s in INSTRUCTION_SETS if s.name == sys.argv[1]), sys.argv[2])
