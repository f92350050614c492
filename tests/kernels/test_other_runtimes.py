"""Runtimes that the library does not know: it says so, or stays away; the model runs densely."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_uint32, c_void_p
from pathlib import Path

import pytest

VERSION, OLDEST = 17, 1
CREATE_STATUS = 0
STATUS = 0x5A5A
_GET_API = CFUNCTYPE(c_void_p, c_uint32)
_GET_VERSION = CFUNCTYPE(c_char_p)
_CREATE_STATUS = CFUNCTYPE(c_void_p, c_int, c_char_p)


class _Base(Structure):
    _fields_ = (("get_api", _GET_API), ("get_version", _GET_VERSION))


def registered(kernels: Path, get_api: Callable[[int], int | None]) -> int | None:
    """What registering answers to a runtime; None for success."""
    library = ctypes.CDLL(str(kernels))
    library.RegisterCustomOps.argtypes = [c_void_p, POINTER(_Base)]
    library.RegisterCustomOps.restype = c_void_p
    base = _Base(_GET_API(get_api), _GET_VERSION(lambda: b"0.0"))
    status: int | None = library.RegisterCustomOps(None, ctypes.byref(base))
    return status


def test_an_older_runtime_is_told_what_it_needs(kernel_path: Path) -> None:
    told: list[tuple[int, bytes]] = []

    def create_status(code: int, text: bytes) -> int:
        told.append((code, text))
        return STATUS

    create = _CREATE_STATUS(create_status)
    table = (c_void_p * 1)(ctypes.cast(create, c_void_p))
    asked: list[int] = []

    def get_api(version: int) -> int | None:
        asked.append(version)
        return None if version > OLDEST else ctypes.addressof(table)

    assert registered(kernel_path, get_api) == STATUS
    assert asked == [VERSION, OLDEST]
    ((_, text),) = told
    assert b"need ONNX Runtime 1.17 or later" in text
    assert b"densely" in text


@pytest.mark.parametrize("registrations", [1, 2])
def test_a_runtime_without_any_table_is_left_alone(kernel_path: Path, registrations: int) -> None:
    for _ in range(registrations):
        assert registered(kernel_path, lambda version: None) is None
