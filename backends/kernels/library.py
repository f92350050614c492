"""The shared library of all kernels: built once for each version of its sources, then cached.

TVM compiles the kernels, a C compiler the code around them (the system's `cc`, or `zig cc` from
the `ziglang` wheel, which needs no system tool-chain), as many files at once as there are cores.
The result holds every instruction set of its architecture and picks one when it is loaded.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autosparse.errors import CompileError
from autosparse.journal import full_disk, is_full
from backends.kernels.compilers import (
    CCompiler,
    Compilation,
    run_at_once,
    run_compiler,
    run_module,
    usable_cores,
)
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
_WITH_BF16 = "avx512"
"""Whose steps of bf16 are compiled a second time, for processors that multiply it themselves."""
LIBRARY_NAME = "libautosparse_kernels.so"
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno",
          "-fno-trapping-math", "-Wall", "-Wextra")  # fmt: skip
# never unloaded: scratch memory and operators outlive the sessions that use them
_LINKER_FLAGS = ("-Wl,-z,nodelete", "-Wl,-z,noexecstack", "-Wl,-s", "-lm")
_MOST_PROCESSES = 4
"""That compile kernels, however many cores there are: 150 MB together, and 65 MB each."""
_KERNEL_SECONDS = 3600.0
"""That all kernels may take, on a small device with one core."""


@dataclass(frozen=True)
class _CSource:
    """A source that becomes one object."""

    path: Path
    flags: tuple[str, ...]
    instruction_set: str = ""
    """As an identifier; empty where it is the same for all of them."""

    @property
    def object_name(self) -> str:
        """Of the file."""
        suffix = f"_{self.instruction_set}" if self.instruction_set else ""
        return f"{self.path.stem}{suffix}.o"

    def compilation(self, compiler: CCompiler, directory: Path) -> Compilation:
        """What writes the object to a directory."""
        command = (
            *compiler.command, *_FLAGS, *self.flags, *_include_flags(), "-c", str(self.path),
            "-o", str(directory / self.object_name),
        )  # fmt: skip
        where = f" for {self.instruction_set}" if self.instruction_set else ""
        return Compilation(command, f"{self.path.name}{where}")


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
    """A file or directory of the cache, made if it is not there: whole or not at all.

    Whoever asks for it while somebody else makes it waits, and takes that one.

    Args:
        built: where it is to lie.
        build: makes it, or what it is moved from, in an empty directory.
        what: what it is called where there is no room for it.

    Raises:
        CompileError: it cannot be made, or not be kept.
    """
    if built.exists():
        return built
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with _making(built):
            if not built.exists():
                with tempfile.TemporaryDirectory(
                    prefix=f"{built.name}.", dir=built.parent
                ) as directory:
                    build(Path(directory)).replace(built)
    except OSError as error:
        raise CompileError(
            f"{what} cannot be kept in {built.parent}: {error.strerror or error}",
            hint="make room there, or name another directory in XDG_CACHE_HOME",
        ) from error
    return built


@contextmanager
def _making(built: Path) -> Iterator[None]:
    """Be the only one who makes it; what somebody who was killed has left of it goes.

    The lock's file stays: were it removed, one who waits for it and one who makes a new one would
    not know of each other.
    """
    with built.with_name(f"{built.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in built.parent.glob(f"{built.name}.*/"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def put_library(built: Path, place: Path) -> Path:
    """Put a library of the cache where a lowered model wants it; an older one there goes.

    Returns:
        Where it is now.

    Raises:
        StorageError: there is no room for it, which no other candidate has either.
        CompileError: it cannot be copied.
    """
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # another file system, or one without links
        os.link(built, place)
        return place
    try:
        shutil.copyfile(built, place)
    except OSError as error:
        if is_full(error):
            raise full_disk(place) from error
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


def kernel_parts(
    directory: Path, architecture: str, compiler: CCompiler, defines: tuple[str, ...] = ()
) -> list[Path]:
    """Object files that make up the library; those of C go to `directory`.

    Args:
        directory: where they are written.
        architecture: of the machine that they are for (`x86_64`, `aarch64`).
        compiler: of the C sources.
        defines: flags of C sources that are not compiled for each instruction set.

    Raises:
        CompileError: TVM or the compiler refuses the sources.
    """
    kernels = _compiled_kernels(architecture)
    sources = [
        _CSource(path, defines)
        for path in (*sorted(_C_SOURCES.glob("*.c")), kernels / "kernel_table.c")
        if path.name not in _PER_INSTRUCTION_SET
    ]
    for target in instruction_sets(architecture):
        if target.extended() is target:
            sources += _steps(target, compiler)
    run_at_once([source.compilation(compiler, directory) for source in sources])
    objects = [directory / source.object_name for source in sources]
    return [*objects, *sorted(kernels.glob("*.o"))]


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
    command = (*compiler.command, *_FLAGS, *_include_flags(), "-o", str(made), *names, *flags)
    run_compiler(Compilation(command, "the C sources of the kernels"))


def _compiled_kernels(architecture: str) -> Path:
    """Directory of the kernels' objects and their table; kept when the C around them changes."""

    def build(directory: Path) -> Path:
        made = directory / "objects"
        made.mkdir()
        processes = min(usable_cores(), _MOST_PROCESSES)
        run_module(
            "backends.kernels.compile_kernels",
            (architecture, str(made), str(processes)),
            "the sparse kernels",
            _KERNEL_SECONDS,
        )
        return made

    name = f"{architecture}-{digest_of(_kernel_sources())}"
    return built_once(cache_directory() / "objects" / name, build, "the sparse kernels")


def _steps(target: InstructionSet, compiler: CCompiler) -> list[_CSource]:
    """What is compiled for one instruction set."""
    flags = target.compiler_flags(zig=compiler.is_zig)
    found = [(name, target.identifier, flags) for name in _PER_INSTRUCTION_SET]
    if target.name == _WITH_BF16:
        cpu, *rest = flags
        with_bf16 = (f"{cpu}+avx512bf16", *rest) if compiler.is_zig else (*flags, "-mavx512bf16")
        found.append(("steps_bf16.c", "avx512_bf16", with_bf16))
    return [
        _CSource(_C_SOURCES / name, (*own, f"-DAS_SET={identifier}"), identifier)
        for name, identifier, own in found
    ]


def _include_flags() -> list[str]:
    specification = importlib.util.find_spec("tvm_ffi")
    if specification is None or specification.origin is None:
        raise CompileError("the headers of apache-tvm-ffi are missing", hint="reinstall it")
    return [f"-I{_C_SOURCES}", f"-I{Path(specification.origin).parent / 'include'}"]
