"""Machine code for a GPU, compiled by NVIDIA's `nvcc`, which needs no GPU."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from autosparse.errors import CompileError
from backends.cuda_kernels.tiles import Element, kernel_source
from backends.kernels.compilers import Compilation, run_compiler
from backends.kernels.library import built_once, cache_directory

SOURCES = Path(__file__).parent / "csrc"
ARCHITECTURES = ("sm_80", "sm_90")
"""Those that are tested: A100 and its like, H100 and H200. Any from sm_80 on has the instructions;
machine code runs on devices of its own number only, and on later ones before the next ten."""
_PLACES = ("/usr/local/cuda/bin", "/opt/cuda/bin")


def find_nvcc() -> Path | None:
    """The compiler: in CUDA_HOME, on the path, or where it is installed by default."""
    home = os.environ.get("CUDA_HOME")
    places = [*([str(Path(home) / "bin")] if home else []), os.environ.get("PATH", ""), *_PLACES]
    found = shutil.which("nvcc", path=os.pathsep.join(places))
    return Path(found) if found else None


def cubin(element: Element, architecture: str) -> Path:
    """The compiled kernels of a number format; cached for each version of their sources.

    Args:
        element: the number format.
        architecture: of the device, for example `sm_90`.

    Raises:
        CompileError: `nvcc` is missing or refuses the sources, or there is no room for the result.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise CompileError(
            "NVIDIA's compiler nvcc, which compiles the kernels for GPUs, is not installed",
            hint="install the CUDA toolkit, 12.5 or later, or name its directory in CUDA_HOME",
        )
    name = f"{element.value}-{architecture}-{_version(nvcc)}.cubin"
    what = f"the kernels for {element.value} on {architecture}"

    def build(directory: Path) -> Path:
        source, made = directory / f"{element.value}.cu", directory / name
        source.write_text(kernel_source(element), encoding="utf-8")
        command = (*nvcc_command(nvcc, architecture), "-o", str(made), str(source))
        run_compiler(Compilation(command, what))
        return made

    return built_once(cache_directory() / "cuda" / name, build, what)


def nvcc_command(nvcc: Path, architecture: str) -> list[str]:
    """What makes machine code for one architecture of a source file that is named after it."""
    return [str(nvcc), "-cubin", f"-arch={architecture}", "-std=c++17", "-O3", f"-I{SOURCES}"]


def _version(nvcc: Path) -> str:
    """Digest of everything that machine code is made from."""
    compiler = (nvcc_command(nvcc.resolve(), ""), nvcc.stat().st_mtime_ns)
    digest = hashlib.sha256(repr(compiler).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    for element in Element:
        digest.update(kernel_source(element).encode())
    return digest.hexdigest()[:16]
