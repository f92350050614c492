"""NVIDIA's driver through its C interface: what starts the kernels, without any library beside it.

The primary context of the device is used, which PyTorch and others use too: their memory and
streams are valid here. Every address is one of the device's memory.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from autosparse.errors import MeasurementError
from backends.cuda_kernels.layer import Launch, Parameters

_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _SHARED_BYTES = 75, 76, 8
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES."""
_LEAST = (8, 0)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuModuleLoadData": (POINTER(c_void_p), c_char_p),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuFuncSetAttribute": (c_void_p, c_int, c_int),
    "cuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, POINTER(c_void_p), c_void_p),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class Device:
    """A GPU."""

    def __init__(self, ordinal: int = 0) -> None:
        """Make its primary context this thread's.

        Args:
            ordinal: which one, as CUDA counts.

        Raises:
            MeasurementError: there is no driver, no such device, or an older one than the kernels
                are for.
        """
        self._library = _driver()
        self.call("cuInit", 0)
        count = c_int()
        self.call("cuDeviceGetCount", byref(count))
        if not 0 <= ordinal < count.value:
            raise MeasurementError(
                f"there is no GPU {ordinal}: NVIDIA's driver sees {count.value}",
                hint="run this on a machine with one, and look at CUDA_VISIBLE_DEVICES",
            )
        handle, context = c_int(), c_void_p()
        self.call("cuDeviceGet", byref(handle), ordinal)
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), handle)
        self.name = name.value.decode()
        self.capability = (self._attribute(_MAJOR, handle), self._attribute(_MINOR, handle))
        if self.capability < _LEAST:
            raise MeasurementError(
                f"{self.name} is of compute capability {self.capability[0]}.{self.capability[1]}",
                hint="sparse tensor cores are there from 8.0 on (A100, RTX 30)",
            )
        self.call("cuDevicePrimaryCtxRetain", byref(context), handle)
        self.call("cuCtxSetCurrent", context)

    @property
    def architecture(self) -> str:
        """As compilers name it, for example `sm_90`."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    def load(self, cubin: Path) -> Module:
        """Load machine code.

        Raises:
            MeasurementError: it is not for this device, or damaged.
        """
        module = c_void_p()
        self.call("cuModuleLoadData", byref(module), cubin.read_bytes())
        return Module(self, module)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            MeasurementError: it fails.
        """
        status = getattr(self._library, name)(*arguments)
        if status:
            said = c_char_p()
            self._library.cuGetErrorString(status, byref(said))
            reason = said.value.decode() if said.value else f"error {status}"
            raise MeasurementError(f"the GPU's driver refuses {name}: {reason}")

    def _attribute(self, number: int, handle: c_int) -> int:
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), number, handle)
        return value.value


class Module:
    """Loaded machine code."""

    def __init__(self, device: Device, handle: c_void_p) -> None:
        self._device = device
        self._handle = handle
        self._functions: dict[str, c_void_p] = {}

    def start(self, how: Launch, parameters: Parameters, stream: int = 0) -> None:
        """Start a kernel behind what the stream has to do; it is not waited for.

        Args:
            how: the kernel, and how many threads run it.
            parameters: what it is called with, copied before this returns.
            stream: a handle; 0 for the default one.

        Raises:
            MeasurementError: the driver refuses.
        """
        given = (c_void_p * 1)(ctypes.addressof(parameters))
        self._device.call(
            "cuLaunchKernel", self._function(how), *how.grid, 1, how.threads, 1, 1,
            how.shared_bytes, stream, given, None,
        )  # fmt: skip

    def _function(self, how: Launch) -> c_void_p:
        found = self._functions.get(how.kernel)
        if found is None:
            found = c_void_p()
            self._device.call(
                "cuModuleGetFunction", byref(found), self._handle, how.kernel.encode()
            )
            # a block has more than 48 KB of dynamic shared memory only after it was asked for
            self._device.call("cuFuncSetAttribute", found, _SHARED_BYTES, how.shared_bytes)
            self._functions[how.kernel] = found
        return found


@cache
def _driver() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise MeasurementError(
            f"NVIDIA's driver ({_LIBRARY}) is not installed",
            hint="run this on a machine with an NVIDIA GPU of compute capability 8.0 or later",
        ) from error
    for name, arguments in _SIGNATURES.items():
        getattr(library, name).argtypes = arguments
    return library
