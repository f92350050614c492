"""Compile the graph of an artifact to object files. Run in a process of its own.

LLVM aborts the whole process on a wrong intrinsic, and TVM takes seconds to import, so the product
never imports this module: `build.py` runs it as `python -m backends.tvm_artifact.compile_artifact
GRAPH INSTRUCTION_SET DIRECTORY TRIALS DATABASE NAME=SIZE ...`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from autosparse.parent_process import end_with_parent
from backends.without_torch import keeping_torch_out

with keeping_torch_out():
    import tvm

import onnx
from tvm import relax

from backends.kernels.compile_kernels import llvm_target
from backends.kernels.targets import INSTRUCTION_SETS, InstructionSet
from backends.tvm_artifact.relax_import import import_graph


def compile_graph(
    graph: Path, target: InstructionSet, sizes: dict[str, int], to: Path, trials: int, tuned: Path
) -> None:
    """Write the object files of one graph to a directory.

    Args:
        graph: without weights.
        target: what its own code needs.
        sizes: of free dimensions in its second entry.
        to: the directory.
        trials: for each loop nest that no kernel covers.
        tuned: database of what earlier trials found.
    """
    module = import_graph(onnx.load(graph), sizes)
    llvm = tvm.target.Target({**llvm_target(target), "num-cores": 1})
    with llvm:
        module = relax.transform.FastMathTransform()(module)
        module = relax.get_pipeline("zero")(module)
    if trials:
        from backends.tvm_artifact.tuning import apply_best  # which takes seconds to import

        module = apply_best(module, llvm, trials, tuned)
    compiled = tvm.compile(module, target=llvm)

    def keep(_: str, objects: list[str], **__: object) -> None:
        for number, path in enumerate(objects):
            shutil.copyfile(path, to / f"graph_{number}{Path(path).suffix}")

    keep.object_format = "o"  # type: ignore[attr-defined]
    compiled.export_library(str(to / "unused.so"), fcompile=keep)


if __name__ == "__main__":
    end_with_parent(os.getppid())
    named = next(s for s in INSTRUCTION_SETS if s.name == sys.argv[2])
    given = {name: int(size) for name, _, size in (pair.rpartition("=") for pair in sys.argv[6:])}
    compile_graph(
        Path(sys.argv[1]), named, given, Path(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
    )
