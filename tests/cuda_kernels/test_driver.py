"""Starting kernels through NVIDIA's driver, which is emulated like the GPU behind it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import MeasurementError
from backends.cuda_kernels import driver
from backends.cuda_kernels.driver import Device
from backends.cuda_kernels.layer import Call, Launch, LinearLayer
from backends.cuda_kernels.tiles import Element
from tests.cuda_kernels.emulated import Emulated
from tests.cuda_kernels.weights import packed, weight


@pytest.fixture
def emulated_driver(
    emulation: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ctypes.CDLL]:
    """The library with the kernels, as the driver's."""
    monkeypatch.setattr(driver, "_LIBRARY", emulation._name)
    driver._driver.cache_clear()
    yield emulation
    driver._driver.cache_clear()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file that looks like machine code; the emulation has its own."""
    path = tmp_path / "kernels.cubin"
    path.write_bytes(b"\x7fELF")
    return path


def set_variable(library: ctypes.CDLL, name: str, value: int) -> None:
    ctypes.c_int.in_dll(library, name).value = value


def test_a_kernel_is_started_with_its_parameters(emulated_driver: ctypes.CDLL, code: Path) -> None:
    device = Device()
    assert (device.name, device.architecture) == ("emulated", "sm_90")
    module = device.load(code)
    random = np.random.default_rng(0)
    layer = LinearLayer(packed(weight("2:4", Element.BF16, (70, 96), random), "2:4", Element.BF16))
    before = ctypes.c_int.in_dll(emulated_driver, "as_launches").value
    for rows in (3, 30, 130):  # every tile, some with more shared memory than a block has at first
        x = random.standard_normal((rows, 96)).astype(np.float32)
        y = np.zeros((rows, 70), np.float32)
        addresses = {name: array.ctypes.data for name, array in layer.arrays().items()}
        call = Call(rows, x.ctypes.data, y.ctypes.data)
        module.start(layer.launch(rows), layer.parameters(addresses, call))
        np.testing.assert_array_equal(y, Emulated(emulated_driver, layer)(x, "fp32"))
    assert ctypes.c_int.in_dll(emulated_driver, "as_launches").value == before + 3


def test_what_the_driver_refuses_is_an_error(emulated_driver: ctypes.CDLL, code: Path) -> None:
    module = Device().load(code)
    parameters = packed(np.eye(16, dtype=np.float32), "dense", Element.FP16)
    layer = LinearLayer(parameters)
    given = layer.parameters({}, Call(1, 0, 0))
    with pytest.raises(MeasurementError, match="cuModuleGetFunction: named symbol not found"):
        module.start(Launch("no_such_kernel", (1, 1), 32, 0), given)
    with pytest.raises(MeasurementError, match="cuFuncSetAttribute: invalid argument"):
        module.start(Launch("as_fp16_dense_few", (1, 1), 256, 1 << 20), given)
    code.write_bytes(b"no machine code")
    with pytest.raises(MeasurementError, match="cuModuleLoadData: error 200"):
        Device().load(code)


def test_a_machine_without_a_gpu_says_so(
    emulated_driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MeasurementError, match=r"no GPU 1: .* sees 1 .*CUDA_VISIBLE_DEVICES"):
        Device(1)
    try:
        set_variable(emulated_driver, "as_device_major", 7)
        with pytest.raises(MeasurementError, match=r"compute capability 7\.0 .*from 8\.0 on"):
            Device()
        set_variable(emulated_driver, "as_device_count", -1)
        with pytest.raises(MeasurementError, match="cuInit: no CUDA-capable device"):
            Device()
    finally:
        set_variable(emulated_driver, "as_device_count", 1)
        set_variable(emulated_driver, "as_device_major", 9)
    monkeypatch.setattr(driver, "_LIBRARY", "libnowhere-to-be-found.so.1")
    driver._driver.cache_clear()
    with pytest.raises(MeasurementError, match=r"NVIDIA's driver \(libnowhere.* is not installed"):
        Device()
