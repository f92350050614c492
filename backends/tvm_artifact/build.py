"""The library of an artifact: the compiled graph and all kernels; built once for each graph.

Libraries of one graph for several architectures share its digest, and so one file of parameters;
each of them knows itself which instructions it needs.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx_ir as ir

from autosparse.evaluation import read_environment
from backends.kernels.compilers import CCompiler, run_module
from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.library import (
    built_once,
    cache_directory,
    compile_and_link,
    digest_of,
    kernel_library,
    kernel_parts,
    require_tvm,
    shared_flags,
)
from backends.kernels.targets import instruction_sets

_SOURCES = Path(__file__).parent
_C_SOURCES = _SOURCES / "csrc"
_COMPILED_BY = ("compile_artifact.py", "relax_import.py", "tuning.py")
LIBRARY_NAME = "model.so"
ARTIFACTS = "artifacts"
"""Where they lie in the cache."""
_INSIDE_TVM = ("-DAS_INSIDE_TVM",)
_TUNED = "tuned"
"""Where databases of trials lie, one for each machine and instruction set."""
_SECONDS, _SECONDS_A_TRIAL = 600.0, 60.0
"""That compiling a graph may take, and each of its trials: many loop nests have that many."""


@dataclass(frozen=True)
class BuiltLibrary:
    """A compiled library."""

    path: Path
    code: str
    """Digest of what it computes, 64 characters: that of every architecture's library."""
    instruction_set: str
    """What the graph's own code needs; kernels are there for others, too."""


def build_library(
    model: ir.Model,
    sizes: Mapping[str, int],
    architecture: str = platform.machine(),
    trials: int = 0,
) -> BuiltLibrary:
    """The library of a graph that `artifact_graph` made.

    Args:
        model: the graph, without weights.
        sizes: name of a free dimension -> its size in a second entry; empty for none.
        architecture: of the machine that it is for (`x86_64`, `aarch64`). Where it is not this
            one's, the graph's own code takes no more than every such machine has.
        trials: for each loop nest that no kernel covers; only for this machine.

    Raises:
        CompileError: TVM or the C compiler is missing, or refuses the graph.
    """
    require_tvm()
    if architecture == platform.machine():
        compiler, instruction_set = CCompiler.find(), best_instruction_set()
    else:
        compiler = CCompiler.crossing(architecture)
        instruction_set = instruction_sets(architecture)[0].name
    graph = ir.to_proto(model).SerializeToString(deterministic=True)
    details = (sorted(sizes.items()), _version(), trials)
    code = hashlib.sha256(graph + repr(details).encode()).hexdigest()
    place = f"{code[:40]}-{instruction_set}-{digest_of([], compiler.command)}"
    built = cache_directory() / ARTIFACTS / place / LIBRARY_NAME

    def build(directory: Path) -> Path:
        source = directory / "graph.onnx"
        source.write_bytes(graph)
        given = [f"{name}={size}" for name, size in sorted(sizes.items())]
        tuned = cache_directory() / _TUNED / f"{instruction_set}-{read_environment().id}"
        run_module(
            "backends.tvm_artifact.compile_artifact",
            [str(source), instruction_set, str(directory), str(trials), str(tuned), *given],
            "the model's graph",
            _SECONDS + _SECONDS_A_TRIAL * trials,
        )
        identity = directory / "identity.c"
        identity.write_text(
            f'const char as_artifact_identity[] = "{code}{instruction_set}";\n', encoding="utf-8"
        )
        objects = sorted(directory.glob("graph_*"))
        core = _core_parts(directory, architecture, compiler)
        library = directory / LIBRARY_NAME
        flags = (*shared_flags(_C_SOURCES / "exports.map"), *_INSIDE_TVM)
        compile_and_link([*core, identity, *objects], library, compiler, flags)
        return library

    return BuiltLibrary(built_once(built, build, "the compiled model"), code, instruction_set)


@cache
def best_instruction_set() -> str:
    """The most capable one that this processor has, as the kernels find it."""
    return KernelLibrary(kernel_library()).instruction_set


@cache
def _version() -> str:
    """Digest of everything but the graph; asked for with every recipe."""
    sources = [_SOURCES / name for name in _COMPILED_BY]
    kernels = kernel_library().parent.name  # a digest itself
    return digest_of([*sources, *sorted(_C_SOURCES.iterdir())], kernels)


def _core_parts(directory: Path, architecture: str, compiler: CCompiler) -> list[Path]:
    """The kernels and what opens parameters: sources and object files, as few as can be."""
    if not compiler.is_zig:
        return [_joined_core(architecture, compiler)]
    # zig keeps what it compiled by itself, and cannot join it: it finds no headers then
    return _separate_core(directory, architecture, compiler)


def _joined_core(architecture: str, compiler: CCompiler) -> Path:
    """All of it in one object file, made once."""

    def build(directory: Path) -> Path:
        made = directory / "core.o"
        parts = _separate_core(directory, architecture, compiler)
        compile_and_link(parts, made, compiler, ("-r", "-nostdlib", *_INSIDE_TVM))
        return made

    name = f"artifact-{architecture}-{digest_of([], _version(), compiler.command)}.o"
    return built_once(cache_directory() / "objects" / name, build, "the kernels")


def _separate_core(directory: Path, architecture: str, compiler: CCompiler) -> list[Path]:
    parts = kernel_parts(directory, architecture, compiler, _INSIDE_TVM)
    ours = [path for path in parts if not path.name.startswith("ort_")]
    return [*ours, *sorted(_C_SOURCES.glob("*.c"))]
