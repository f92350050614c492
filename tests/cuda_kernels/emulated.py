"""The kernels for GPUs on this processor: compiled as C, their threads emulated, for tests."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.cuda_kernels.cubin import SOURCES
from backends.cuda_kernels.layer import Call, LinearLayer, Parameters
from backends.cuda_kernels.tiles import Element, kernel_source
from backends.kernels.compilers import CCompiler, Compilation, run_compiler
from tests.kernels.fp32_layers import EndOfPage

Array = npt.NDArray[Any]
EMULATION = Path(__file__).parent / "emulation"
ORDERS = {"in turns": 0, "first threads first": 1, "last threads first": 2}
_KINDS: dict[str, type[np.generic]] = {
    "fp32": np.float32, "fp16": np.float16, "bf16": np.uint16, "uint8": np.uint8,
}  # fmt: skip
_FLAGS = ("-std=c11", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing",
          "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Wno-unused-function")  # fmt: skip


class EmulationError(Exception):
    """What the emulation has against a kernel."""


class _Launch(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32) for name in ("grid_x", "grid_y", "threads", "shared_bytes", "order")
    ]


def build(directory: Path, sources: dict[str, str]) -> ctypes.CDLL:
    """A library of the emulation and of kernels.

    Args:
        directory: where files go.
        sources: name of each C file -> its text.
    """
    for name, text in sources.items():
        (directory / name).write_text(text, encoding="utf-8")
    files = [str(directory / name) for name in sources]
    own = [str(EMULATION / name) for name in ("emulator.c", "tensor_cores.c", "driver.c")]
    made = directory / "emulated.so"
    command = (
        *CCompiler.find().command, *_FLAGS, f"-I{EMULATION}", f"-I{SOURCES}", "-o", str(made),
        *files, *own, "-lm", "-ldl",
    )  # fmt: skip
    run_compiler(Compilation(command, "the emulation"))
    library = ctypes.CDLL(str(made))
    library.as_emulate.restype = ctypes.c_char_p
    return library


def kernel_sources() -> dict[str, str]:
    """C files with all kernels."""
    return {f"{element.value}.c": kernel_source(element) for element in Element}


def emulate(
    library: ctypes.CDLL, kernel: str, given: Parameters, grid: tuple[int, int], threads: int,
    shared_bytes: int, order: str,
) -> None:  # fmt: skip
    """Run a kernel.

    Raises:
        EmulationError: it did what a device would not, or not surely.
    """
    function = ctypes.cast(getattr(library, kernel), ctypes.c_void_p)
    launch = _Launch(*grid, threads, shared_bytes, ORDERS[order])
    problem = library.as_emulate(function, ctypes.byref(given), ctypes.byref(launch))
    if problem:
        raise EmulationError(problem.decode())


@dataclass
class Emulated:
    """A layer in memory that ends where an access beyond it is a fault."""

    library: ctypes.CDLL
    layer: LinearLayer
    order: str = "in turns"
    place_input: Callable[[Array], Array] | None = None
    """Where activations lie; at the end of a page, unless it says otherwise."""

    def __call__(self, x: Array, input_type: str, output_type: str = "fp32") -> Array:
        """Run once; types are those of `layer.NUMBERS`, bf16 as its bits."""
        held = {name: at_the_end(array) for name, array in self.layer.arrays().items()}
        shape = (len(x), self.layer.weight.outputs)
        output = at_the_end(np.full(shape, 77, _KINDS[output_type]))
        given = (self.place_input or at_the_end)(x)
        call = Call(len(x), given.ctypes.data, output.ctypes.data, input_type, output_type)
        parameters = self.layer.parameters({n: a.ctypes.data for n, a in held.items()}, call)
        how = self.layer.launch(len(x))
        emulate(
            self.library, how.kernel, parameters, how.grid, how.threads, how.shared_bytes,
            self.order,
        )  # fmt: skip
        return output


_PAGES = EndOfPage()


def at_the_end(array: Array) -> Array:
    """A copy whose last byte, but for what rounding to 16 bytes takes, is the last of a page."""
    room = _PAGES.empty((-(-array.nbytes // 16) * 4,)).view(np.uint8)
    # weights and aligned activations are read 16 bytes at a time: both ends lie on such a border
    place = room[: array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


def unaligned(array: Array) -> Array:
    """A copy that begins behind a border of 16 bytes, and ends with a page or nearly so."""
    room = _PAGES.empty((array.nbytes // 4 + 8,)).view(np.uint8)
    slack = 0 if array.nbytes % 16 else array.itemsize
    place = room[len(room) - slack - array.nbytes : len(room) - slack]
    placed = place.view(array.dtype).reshape(array.shape)
    assert placed.ctypes.data % 16
    placed[...] = array
    return placed
