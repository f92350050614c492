"""Layers and inputs as a memory image, for a machine without Python: see `image_runner.c`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import c_int64
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.kernels import kernel_core
from backends.kernels.sparse_layer import SparseLayer

Array = npt.NDArray[Any]
_ALIGNMENT = 64


@dataclass(frozen=True)
class Case:
    """One layer, one input, and what must come out."""

    name: str
    layer: SparseLayer
    x: Array
    """(rows, features) or (batch, channels, height, width)."""
    shape: tuple[int, ...]
    """Of the output."""
    check: Callable[[Array], None]
    """Raises where the output is wrong."""
    residual: npt.NDArray[np.float32] | None = None

    @property
    def output_type(self) -> np.dtype[Any]:
        """float32, or uint8 where the output has a grid."""
        grid = self.layer.quantization
        return np.dtype(np.float32 if grid is None or grid.output_step is None else np.uint8)

    @property
    def output_bytes(self) -> int:
        """Size of the output."""
        return int(np.prod(self.shape)) * self.output_type.itemsize


class _Record(ctypes.Structure):
    _fields_ = [
        ("spec", kernel_core._Spec), ("call", kernel_core._Call), ("input_bytes", c_int64),
        ("residual_bytes", c_int64), ("output_bytes", c_int64),
    ]  # fmt: skip


def memory_image(cases: Sequence[Case]) -> bytes:
    """The number of cases, a record of each, then all arrays; pointers are offsets."""
    header = bytearray(ctypes.sizeof(c_int64) + len(cases) * ctypes.sizeof(_Record))
    header[:8] = len(cases).to_bytes(8, "little")
    arrays = bytearray()

    def place(array: Array | None) -> int | None:
        if array is None or not array.size:
            return None
        begin = -(-(len(header) + len(arrays)) // _ALIGNMENT) * _ALIGNMENT
        arrays.extend(bytes(begin - len(header) - len(arrays)))
        arrays.extend(array.tobytes())
        return begin

    for index, case in enumerate(cases):
        record = _record(case, place)
        at = 8 + index * ctypes.sizeof(_Record)
        header[at : at + ctypes.sizeof(_Record)] = bytes(record)
    return bytes(header + arrays)


def _record(case: Case, place: Callable[[Array | None], int | None]) -> _Record:
    layer = case.layer
    spec = kernel_core._specification(layer)
    spec.positions = place(layer.positions)
    spec.bias = place(layer.bias)
    if layer.norm is not None:
        spec.norm_scale, spec.norm_shift = place(layer.norm.scale), place(layer.norm.shift)
    if layer.values.dtype == np.uint16:
        spec.bf16_values = place(layer.values)
    elif layer.quantization is None:
        spec.fp32_values = place(layer.values)
    else:
        spec.int8_values = place(layer.values)
        spec.weight_steps = place(layer.quantization.weight_steps)
    spatial = case.x.shape[2:] if layer.convolution else (0, 0)
    call = kernel_core._Call(
        input=place(case.x), residual=place(case.residual), rows=len(case.x),
        height=spatial[0], width=spatial[1],
    )  # fmt: skip
    residual_bytes = 0 if case.residual is None else case.residual.nbytes
    return _Record(spec, call, case.x.nbytes, residual_bytes, case.output_bytes)


def check_outputs(cases: Sequence[Case], outputs: bytes) -> None:
    """Check what the runner wrote.

    Raises:
        AssertionError: an output is wrong; names the case.
    """
    assert len(outputs) == sum(case.output_bytes for case in cases)
    at = 0
    for case in cases:
        end = at + case.output_bytes
        made = np.frombuffer(outputs[at:end], case.output_type).reshape(case.shape)
        at = end
        try:
            case.check(made)
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}") from error
