"""The shared library of all kernels: built once for each version of its sources, then cached.

TVM compiles the kernels, a C compiler the code around them (the system's `cc`, or `zig cc` from
the `ziglang` wheel, which needs no system tool-chain). The result holds every instruction set of
its architecture and picks one when it is loaded.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autosparse.errors import CompileError
from backends.kernels.targets import InstructionSet, instruction_sets

_SOURCES = Path(__file__).parent
_PACKAGE = _SOURCES.parent
_C_SOURCES = _SOURCES / "csrc"
_PER_INSTRUCTION_SET = (
    "steps.c",
    "steps_int8.c",
    "steps_norm.c",
    "steps_conv.c",
    "steps_conv_int8.c",
    "steps_bf16.c",
)
_WITH_BF16 = "avx512-vnni"
"""Whose steps of bf16 are compiled a second time, for processors that multiply it themselves."""
LIBRARY_NAME = "libautosparse_kernels.so"
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno",
          "-fno-trapping-math", "-Wall", "-Wextra")  # fmt: skip
# never unloaded: scratch memory and operators outlive the sessions that use them
_LINKER_FLAGS = ("-Wl,-z,nodelete", "-Wl,-z,noexecstack", "-Wl,-s", "-lm")
_OLDEST_LIBC = "2.17"
"""Where it can be chosen: aligned_alloc and getauxval are no older."""
_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class CCompiler:
    """A C compiler and the flags that make it build for one architecture."""

    command: tuple[str, ...]

    @classmethod
    def find(cls) -> CCompiler:
        """For this machine: the system's, or the one from the `ziglang` wheel.

        Raises:
            CompileError: there is neither.
        """
        for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
            if name and shutil.which(name):
                return cls((name,))
        return cls.crossing(platform.machine())

    @classmethod
    def crossing(cls, architecture: str, libc: str = f"gnu.{_OLDEST_LIBC}") -> CCompiler:
        """For any machine: `zig cc`, which brings the headers and the C library of each.

        Args:
            architecture: of the machine (`x86_64`, `aarch64`), of which it takes the least.
            libc: as zig names it, for example `musl`.

        Raises:
            CompileError: the `ziglang` wheel is missing.
        """
        if importlib.util.find_spec("ziglang") is None:
            raise CompileError(
                f"there is no C compiler to build the sparse kernels for {architecture} with",
                hint="install gcc or clang there, or: pip install 'autosparse[kernels]'",
            )
        target = f"{architecture}-linux-{libc}"
        return cls((sys.executable, "-m", "ziglang", "cc", "-target", target))

    @property
    def is_zig(self) -> bool:
        """Whether it has zig's own spelling of flags."""
        return "ziglang" in self.command


def kernel_library(architecture: str = platform.machine()) -> Path:
    """Path of the built library; builds it where this version of it is not cached yet.

    Args:
        architecture: of the machine that it is for (`x86_64`, `aarch64`).

    Raises:
        CompileError: TVM or a C compiler is missing, one of them refuses the sources, or there
            is no room for the result.
    """
    require_tvm()
    if architecture == platform.machine():
        compiler = CCompiler.find()
    else:
        compiler = CCompiler.crossing(architecture)
    built = cache_directory() / _version(architecture, compiler) / LIBRARY_NAME
    return built_once(
        built, lambda directory: _build(directory, architecture, compiler), "the sparse kernels"
    )


def built_once(built: Path, build: Callable[[Path], Path], what: str) -> Path:
    """A file of the cache, made if it is not there: whole or not at all, whoever else makes it.

    Args:
        built: where it is to lie.
        build: makes it, or what it is moved from, in an empty directory.
        what: what it is called where there is no room for it.

    Raises:
        CompileError: it cannot be made, or not be kept.
    """
    if built.is_file():
        return built
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as directory:
            build(Path(directory)).replace(built)
    except OSError as error:
        raise CompileError(
            f"{what} cannot be kept in {built.parent}: {error.strerror or error}",
            hint="make room there, or name another directory in XDG_CACHE_HOME",
        ) from error
    return built


def put_library(built: Path, place: Path) -> Path:
    """Put a library of the cache where a lowered model wants it; an older one there goes.

    Returns:
        Where it is now.

    Raises:
        CompileError: there is no room for it.
    """
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # another file system, or one without links
        os.link(built, place)
        return place
    try:
        shutil.copyfile(built, place)
    except OSError as error:
        raise CompileError(f"cannot copy {place.name}: {error}") from error
    return place


@cache
def _version(architecture: str, compiler: CCompiler) -> str:
    """Digest of everything that the library is made from; asked for with every recipe."""
    sources = [Path(__file__), *_kernel_sources(), *sorted(_C_SOURCES.iterdir())]
    return digest_of(sources, architecture, compiler.command)


def require_tvm() -> None:
    """Whatever is compiled needs it.

    Raises:
        CompileError: it is not installed.
    """
    if importlib.util.find_spec("tvm") is None:
        raise CompileError(
            "Apache TVM, which compiles the sparse kernels, is not installed",
            hint="pip install 'autosparse[kernels]'",
        )


def cache_directory() -> Path:
    """Where everything lies that is compiled once for each version of its sources."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "autosparse" / "kernels"


def _kernel_sources() -> list[Path]:
    """What the compiled kernels, and they alone, are made from."""
    named = [_SOURCES / f"{name}.py" for name in ("compile_kernels", "targets", "tiles")]
    return [*named, *sorted((_SOURCES / "families").glob("*.py"))]


def digest_of(paths: list[Path], *details: object) -> str:
    """Of files, of the versions of TVM, and of whatever else matters; 16 characters."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + path.read_bytes())
    versions = [importlib.metadata.version(p) for p in ("apache-tvm", "apache-tvm-ffi")]
    digest.update(repr((versions, details)).encode())
    return digest.hexdigest()[:16]


def kernel_parts(directory: Path, architecture: str, compiler: CCompiler) -> list[Path]:
    """C sources and object files that make up the library; those that are made go to `directory`.

    Raises:
        CompileError: TVM or the compiler refuses the sources.
    """
    targets = instruction_sets(architecture)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as executor:
        objects = list(executor.map(_compiled_kernels, targets))
        steps = executor.map(lambda t: _compile_steps(t, directory, compiler), targets)
        objects += [path for made in steps for path in made]
    table = directory / "kernel_table.c"
    table.write_text(_kernel_table(targets), encoding="utf-8")
    sources = [p for p in sorted(_C_SOURCES.glob("*.c")) if p.name not in _PER_INSTRUCTION_SET]
    return [*sources, table, *objects]


def _build(directory: Path, architecture: str, compiler: CCompiler) -> Path:
    library = directory / LIBRARY_NAME
    link = (*shared_flags(_C_SOURCES / "exports.map"), "-Wl,--no-undefined")
    compile_and_link(kernel_parts(directory, architecture, compiler), library, compiler, link)
    return library


def shared_flags(exports: Path) -> tuple[str, ...]:
    """Of the linker, for a library that shows no more than a version script names."""
    return ("-shared", f"-Wl,--version-script={exports}", *_LINKER_FLAGS)


def compile_and_link(
    parts: list[Path], made: Path, compiler: CCompiler, flags: tuple[str, ...]
) -> None:
    """Write `made` from C sources and object files.

    Raises:
        CompileError: the compiler refuses them.
    """
    names = [str(path) for path in parts]
    command = [*compiler.command, *_FLAGS, *_include_flags(), "-o", str(made), *names, *flags]
    run_compiler(command, "the C sources of the kernels")


def _compiled_kernels(target: InstructionSet) -> Path:
    """The object file of one instruction set; TVM takes seconds, so it is cached on its own."""
    name = f"{target.name}-{digest_of(_kernel_sources())}.o"

    def build(directory: Path) -> Path:
        made = directory / name
        run_module(
            "backends.kernels.compile_kernels",
            [target.name, str(made)],
            f"the {target.name} kernels",
        )
        return made

    return built_once(cache_directory() / "objects" / name, build, "the sparse kernels")


def run_module(
    module: str, arguments: list[str], what: str, seconds: float = _TIMEOUT_SECONDS
) -> None:
    """Run a module of ours that compiles, in a process of its own, for at most some seconds.

    Raises:
        CompileError: it fails, takes longer, or ends in a crash.
    """
    run_compiler([sys.executable, "-m", module, *arguments], what, _PACKAGE.parent, seconds)


def _compile_steps(target: InstructionSet, directory: Path, compiler: CCompiler) -> list[Path]:
    flags = target.compiler_flags(zig=compiler.is_zig)
    sources = [(name, target.identifier, flags) for name in _PER_INSTRUCTION_SET]
    if target.name == _WITH_BF16:
        cpu, *rest = flags
        with_bf16 = (f"{cpu}+avx512bf16", *rest) if compiler.is_zig else (*flags, "-mavx512bf16")
        sources.append(("steps_bf16.c", "avx512_bf16", with_bf16))
    made = []
    for name, identifier, own in sources:
        path = directory / f"{Path(name).stem}_{identifier}.o"
        command = [
            *compiler.command, *_FLAGS, *own, f"-DAS_SET={identifier}", *_include_flags(), "-c",
            str(_C_SOURCES / name), "-o", str(path),
        ]  # fmt: skip
        run_compiler(command, f"{name} for {identifier}")
        made.append(path)
    return made


def _kernel_table(targets: tuple[InstructionSet, ...]) -> str:
    """C source of the table that `csrc/kernel_call.c` searches."""
    from backends.kernels.tiles import tiles_for  # its TVMScript imports TVM

    declarations, rows = [], []
    for target in targets:
        for tile in tiles_for(target):
            symbol = f"__tvm_ffi_{tile.symbol(target)}"
            declarations.append(f"int {symbol}(void *, const void *, int32_t, void *);")
            rows.append(
                f'  {{"{target.name}", "{tile.family}", {tile.vectors}, {tile.rows}, {symbol}}},'
            )
    lines = [
        '#include "internal.h"', "", *declarations, "",
        "const AsKernel as_kernels[] = {", *rows, "};",
        "const size_t as_kernel_count = sizeof as_kernels / sizeof *as_kernels;",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _include_flags() -> list[str]:
    specification = importlib.util.find_spec("tvm_ffi")
    if specification is None or specification.origin is None:
        raise CompileError("the headers of apache-tvm-ffi are missing", hint="reinstall it")
    return [f"-I{_C_SOURCES}", f"-I{Path(specification.origin).parent / 'include'}"]


def run_compiler(
    command: list[str], what: str, cwd: Path | None = None, seconds: float = _TIMEOUT_SECONDS
) -> None:
    """Run a compiler to its end.

    Raises:
        CompileError: it cannot be started, fails, or takes longer.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False,
            process_group=0,  # Ctrl-C at a terminal asks for an answer, and that needs the kernels
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"cannot compile {what}: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        reason = next((line for line in lines if "error:" in line.lower()), lines[-1])
        raise CompileError(f"cannot compile {what} (exit code {done.returncode}): {reason}")
