"""The library of an artifact: the compiled graph and all kernels; built once for each graph."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx_ir as ir

from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.library import (
    CCompiler,
    built_once,
    cache_directory,
    compile_and_link,
    digest_of,
    kernel_library,
    kernel_parts,
    require_tvm,
    run_module,
    shared_flags,
)

_SOURCES = Path(__file__).parent
_C_SOURCES = _SOURCES / "csrc"
_COMPILED_BY = ("compile_artifact.py", "relax_import.py")
LIBRARY_NAME = "model.so"
ARTIFACTS = "artifacts"
"""Where they lie in the cache."""


@dataclass(frozen=True)
class BuiltLibrary:
    """A compiled library."""

    path: Path
    code: str
    """Digest of everything that it is made from, 64 characters."""
    instruction_set: str


def build_library(model: ir.Model, sizes: Mapping[str, int]) -> BuiltLibrary:
    """The library of a graph that `artifact_graph` made, for this machine.

    Args:
        model: the graph, without weights.
        sizes: name of a free dimension -> its size in a second entry; empty for none.

    Raises:
        CompileError: TVM or the C compiler is missing, or refuses the graph.
    """
    require_tvm()
    compiler = CCompiler.find()
    instruction_set = best_instruction_set()
    graph = ir.to_proto(model).SerializeToString(deterministic=True)
    details = (sorted(sizes.items()), instruction_set, _version(compiler))
    code = hashlib.sha256(graph + repr(details).encode()).hexdigest()
    built = cache_directory() / ARTIFACTS / code / LIBRARY_NAME

    def build(directory: Path) -> Path:
        source = directory / "graph.onnx"
        source.write_bytes(graph)
        given = [f"{name}={size}" for name, size in sorted(sizes.items())]
        run_module(
            "backends.tvm_artifact.compile_artifact",
            [str(source), instruction_set, str(directory), *given],
            "the model's graph",
        )
        identity = directory / "identity.c"
        identity.write_text(f'const char as_artifact_code[] = "{code}";\n', encoding="utf-8")
        parts = [_core(compiler), identity, *sorted(directory.glob("graph_*"))]
        library = directory / LIBRARY_NAME
        compile_and_link(parts, library, compiler, shared_flags(_C_SOURCES / "exports.map"))
        return library

    return BuiltLibrary(built_once(built, build, "the compiled model"), code, instruction_set)


@cache
def best_instruction_set() -> str:
    """The most capable one that this processor has, as the kernels find it."""
    return KernelLibrary(kernel_library()).instruction_set


@cache
def _version(compiler: CCompiler) -> str:
    """Digest of everything but the graph; asked for with every recipe."""
    sources = [_SOURCES / name for name in _COMPILED_BY]
    kernels = kernel_library().parent.name  # a digest itself
    return digest_of([*sources, *sorted(_C_SOURCES.iterdir())], kernels, compiler.command)


def _core(compiler: CCompiler) -> Path:
    """The kernels and what opens parameters, as one object file."""

    def build(directory: Path) -> Path:
        made = directory / "core.o"
        parts = kernel_parts(directory, platform.machine(), compiler)
        ours = [path for path in parts if not path.name.startswith("ort_")]
        flags = ("-r", "-nostdlib", "-DAS_INSIDE_TVM")
        compile_and_link([*ours, *sorted(_C_SOURCES.glob("*.c"))], made, compiler, flags)
        return made

    name = f"artifact-{_version(compiler)}.o"
    return built_once(cache_directory() / "objects" / name, build, "the kernels")
