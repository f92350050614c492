"""The library's plain C interface from Python: for tests and for tuning, without any runtime."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autosparse.errors import CompileError
from backends.kernels.sparse_layer import Convolution, SparseLayer

Array = npt.NDArray[Any]

_TASK = ctypes.CFUNCTYPE(None, c_void_p, c_size_t)
_RUN = ctypes.CFUNCTYPE(None, c_void_p, _TASK, c_size_t, c_void_p)
_UINT8, _BF16 = 1, 2


class _Plan(Structure):
    _fields_ = [("family", c_int32), ("vectors", c_int32), ("rows", c_int32), ("depth", c_int32)]


class _Spec(Structure):
    _fields_ = [
        ("struct_bytes", c_int32), ("operation", c_int32), ("outputs", c_int64),
        ("depth", c_int64), ("run", c_int32), ("group", c_int32), ("runs", c_int64),
        ("positions", c_void_p), ("fp32_values", c_void_p), ("int8_values", c_void_p),
        ("bf16_values", c_void_p),
        ("bias", c_void_p), ("input_type", c_int32), ("output_type", c_int32),
        ("input_step", c_float), ("input_zero", c_int32), ("weight_steps", c_void_p),
        ("output_step", c_float), ("output_zero", c_int32), ("activation", c_int32),
        ("activation_low", c_float), ("activation_high", c_float), ("norm_scale", c_void_p),
        ("norm_shift", c_void_p), ("norm_epsilon", c_float), ("channels", c_int64),
        ("groups", c_int64), ("kernel", c_int64 * 2), ("strides", c_int64 * 2),
        ("dilations", c_int64 * 2), ("pads", c_int64 * 4), ("plan", _Plan),
    ]  # fmt: skip


class _Product(Structure):
    _fields_ = [
        ("left", c_void_p), ("right", c_void_p), ("output", c_void_p), ("matrices", c_int64),
        ("rows", c_int64), ("depth", c_int64), ("columns", c_int64),
    ]  # fmt: skip


class _Grid(Structure):
    _fields_ = [("step", c_float), ("zero", c_int32)]


class _Sum(Structure):
    _fields_ = [
        ("left", c_void_p), ("right", c_void_p), ("output", c_void_p), ("count", c_int64),
        ("left_grid", _Grid), ("right_grid", _Grid), ("grid", _Grid), ("low", c_float),
    ]  # fmt: skip


class _Call(Structure):
    _fields_ = [
        ("input", c_void_p), ("residual", c_void_p), ("output", c_void_p), ("rows", c_int64),
        ("height", c_int64), ("width", c_int64),
    ]  # fmt: skip


class _Parallel(Structure):
    _fields_ = [("context", c_void_p), ("run", _RUN)]


def _one_after_another(context: int, task: Any, count: int, data: int) -> None:
    for index in range(count):
        task(data, index)


_SERIAL = _Parallel(None, _RUN(_one_after_another))


class KernelLibrary:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.as_layer_create.argtypes = [POINTER(_Spec), POINTER(c_void_p)]
        self._library.as_layer_create.restype = c_char_p
        self._library.as_layer_run.argtypes = [c_void_p, POINTER(_Call), POINTER(_Parallel)]
        self._library.as_layer_run.restype = c_char_p
        self._library.as_layer_destroy.argtypes = [c_void_p]
        self._library.as_layer_destroy.restype = None
        self._library.as_layer_output_size.argtypes = [
            c_void_p, c_int64, c_int64, POINTER(c_int64 * 2),
        ]  # fmt: skip
        self._library.as_layer_output_size.restype = None
        self._library.as_multiply.argtypes = [POINTER(_Product), POINTER(_Parallel)]
        self._library.as_multiply.restype = c_char_p
        self._library.as_softmax.argtypes = [
            c_void_p, c_void_p, c_int64, c_int64, POINTER(_Parallel),
        ]  # fmt: skip
        self._library.as_softmax.restype = None
        self._library.as_quantize.argtypes = [
            c_void_p, c_void_p, c_int64, _Grid, POINTER(_Parallel),
        ]  # fmt: skip
        self._library.as_quantize.restype = None
        self._library.as_add.argtypes = [POINTER(_Sum), POINTER(_Parallel)]
        self._library.as_add.restype = None
        self._library.as_instruction_set.restype = c_char_p
        self._library.as_has_instruction_set.argtypes = [c_char_p]
        self._library.as_force_instruction_set.argtypes = [c_char_p]
        self._library.as_force_instruction_set.restype = c_char_p

    @property
    def instruction_set(self) -> str:
        """What new layers use."""
        return str(self._library.as_instruction_set().decode())

    def has_instruction_set(self, name: str) -> bool:
        """Whether this processor has one of those that the library is compiled for."""
        return bool(self._library.as_has_instruction_set(name.encode()))

    def force_instruction_set(self, name: str) -> None:
        """Use a lesser instruction set for layers that are created from now on.

        Raises:
            CompileError: this processor or library does not have it.
        """
        problem = self._library.as_force_instruction_set(name.encode())
        if problem:
            raise CompileError(f"{name}: {problem.decode()}")

    def pack(self, layer: SparseLayer) -> KernelLayer:
        """Pack a layer.

        Raises:
            CompileError: the library refuses it; the message says why.
        """
        return KernelLayer(self._library, layer)

    def multiply(self, left: Array, right: Array) -> Array:
        """Matrices (m, rows, depth) times (m, depth, columns), contiguous float32.

        Raises:
            CompileError: the library refuses their sizes.
        """
        output = np.empty((*left.shape[:2], right.shape[2]), np.float32)
        product = _Product(
            left.ctypes.data, right.ctypes.data, output.ctypes.data, *left.shape, right.shape[2]
        )
        problem = self._library.as_multiply(ctypes.byref(product), ctypes.byref(_SERIAL))
        if problem:
            raise CompileError(problem.decode())
        return output

    def quantize(self, x: Array, step: float, zero: int) -> Array:
        """Contiguous float32 on a grid of uint8."""
        output = np.empty(x.shape, np.uint8)
        self._library.as_quantize(
            x.ctypes.data, output.ctypes.data, x.size, _Grid(step, zero), ctypes.byref(_SERIAL)
        )
        return output

    def add(
        self, left: Array, left_grid: tuple[float, int], right: Array,
        right_grid: tuple[float, int], grid: tuple[float, int], low: float,
    ) -> Array:  # fmt: skip
        """The sum of two contiguous uint8 tensors of one shape, at least `low`, on a grid."""
        output = np.empty(left.shape, np.uint8)
        given = _Sum(
            left.ctypes.data, right.ctypes.data, output.ctypes.data, left.size,
            _Grid(*left_grid), _Grid(*right_grid), _Grid(*grid), low,
        )  # fmt: skip
        self._library.as_add(ctypes.byref(given), ctypes.byref(_SERIAL))
        return output

    def softmax(self, x: Array) -> Array:
        """Of the rows (rows, columns) of contiguous float32."""
        output = np.empty_like(x)
        self._library.as_softmax(x.ctypes.data, output.ctypes.data, *x.shape, ctypes.byref(_SERIAL))
        return output


class KernelLayer:
    """One packed layer."""

    def __init__(self, library: ctypes.CDLL, layer: SparseLayer) -> None:
        self._library = library
        self._layer = layer
        self._handle = c_void_p()
        spec = _specification(layer)
        problem = library.as_layer_create(ctypes.byref(spec), ctypes.byref(self._handle))
        if problem:
            raise CompileError(problem.decode())

    def __call__(
        self, x: Array, residual: Array | None = None, output: Array | None = None
    ) -> Array:
        """Run once, in this thread.

        Args:
            x: (rows, features), or (batch, channels, height, width) of a convolution; contiguous,
                float32 or uint8.
            residual: float32 of the output's shape, added before the activation.
            output: where to write; made where it is left out.

        Returns:
            (rows, outputs) or (batch, outputs, height, width).
        """
        if output is None:
            output = np.empty(self.output_shape(x.shape), self._output_type())
        spatial = x.shape[2:] if self._layer.convolution else (0, 0)
        call = _Call(
            input=x.ctypes.data, output=output.ctypes.data, rows=len(x),
            residual=None if residual is None else residual.ctypes.data,
            height=spatial[0], width=spatial[1],
        )  # fmt: skip
        problem = self._library.as_layer_run(
            self._handle, ctypes.byref(call), ctypes.byref(_SERIAL)
        )
        if problem:
            raise CompileError(problem.decode())
        return output

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for an input of `shape`."""
        if self._layer.convolution is None:
            return (shape[0], self._layer.outputs)
        size = (c_int64 * 2)()
        self._library.as_layer_output_size(self._handle, shape[2], shape[3], ctypes.byref(size))
        return (shape[0], self._layer.outputs, size[0], size[1])

    def _output_type(self) -> type[np.generic]:
        grid = self._layer.quantization
        return np.float32 if grid is None or grid.output_step is None else np.uint8

    def __del__(self) -> None:
        if self._handle:
            self._library.as_layer_destroy(self._handle)


def _specification(layer: SparseLayer) -> _Spec:
    """The C struct; it points into the arrays of `layer`."""
    grid, plan = layer.quantization, layer.plan
    spec = _Spec(
        struct_bytes=ctypes.sizeof(_Spec), operation=int(layer.convolution is not None),
        outputs=layer.outputs, depth=layer.depth, run=layer.run, group=layer.group,
        runs=len(layer.positions), positions=layer.positions.ctypes.data,
        bias=None if layer.bias is None else layer.bias.ctypes.data,
        activation=int(layer.activation), activation_low=layer.clip[0],
        activation_high=layer.clip[1],
        plan=_Plan(int(plan.family), plan.vectors, plan.rows, plan.depth),
    )  # fmt: skip
    if layer.norm is not None:
        spec.norm_scale = layer.norm.scale.ctypes.data
        spec.norm_shift = layer.norm.shift.ctypes.data
        spec.norm_epsilon = layer.norm.epsilon
    if layer.values.dtype == np.uint16:
        spec.bf16_values, spec.input_type = layer.values.ctypes.data, _BF16
    elif grid is None:
        spec.fp32_values = layer.values.ctypes.data
    else:
        spec.int8_values = layer.values.ctypes.data
        spec.input_type = _UINT8
        spec.input_step, spec.input_zero = grid.input_step, grid.input_zero
        spec.weight_steps = grid.weight_steps.ctypes.data
        if grid.output_step is not None:
            spec.output_type = _UINT8
            spec.output_step, spec.output_zero = grid.output_step, grid.output_zero
    if layer.convolution is not None:
        _describe_convolution(spec, layer.convolution)
    return spec


def _describe_convolution(spec: _Spec, convolution: Convolution) -> None:
    spec.channels, spec.groups = convolution.channels, convolution.groups
    spec.kernel[:] = convolution.kernel
    spec.strides[:] = convolution.strides
    spec.dilations[:] = convolution.dilations
    spec.pads[:] = convolution.pads
