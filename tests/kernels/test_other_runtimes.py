"""Runtimes that the library does not know: it says so, or stays away; the model runs densely."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import pytest

VERSION, OLDEST = 17, 1
CREATE_STATUS, CREATE_DOMAIN, DOMAIN_ADD, ADD_DOMAIN, RELEASE_DOMAIN = 0, 26, 27, 28, 101
STATUS, DOMAIN = 0x5A5A, 0xD0D0
OPERATORS = 76
_GET_API = CFUNCTYPE(c_void_p, c_uint32)
_GET_VERSION = CFUNCTYPE(c_char_p)
_CREATE_STATUS = CFUNCTYPE(c_void_p, c_int, c_char_p)
_CREATE_DOMAIN = CFUNCTYPE(c_void_p, c_char_p, POINTER(c_void_p))
_OF_TWO = CFUNCTYPE(c_void_p, c_void_p, c_void_p)
_RELEASE = CFUNCTYPE(None, c_void_p)


class _Base(Structure):
    _fields_ = (("get_api", _GET_API), ("get_version", _GET_VERSION))


def base_of(get_api: Callable[[int], int | None]) -> _Base:
    return _Base(_GET_API(get_api), _GET_VERSION(lambda: b"0.0"))


def registered(kernels: Path, base: _Base) -> int | None:
    """What registering answers to a runtime; None for success."""
    library = ctypes.CDLL(str(kernels))
    library.RegisterCustomOps.argtypes = [c_void_p, POINTER(_Base)]
    library.RegisterCustomOps.restype = c_void_p
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

    assert registered(kernel_path, base_of(get_api)) == STATUS
    assert asked == [VERSION, OLDEST]
    ((_, text),) = told
    assert b"need ONNX Runtime 1.17 or later" in text
    assert b"densely" in text


@pytest.mark.parametrize("registrations", [1, 2])
def test_a_runtime_without_any_table_is_left_alone(kernel_path: Path, registrations: int) -> None:
    for _ in range(registrations):
        assert registered(kernel_path, base_of(lambda version: None)) is None


class Runtime:
    """One that has the functions that registering calls, and remembers what it is asked for."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.domains: list[int] = []
        """That were made."""
        self.released: list[int] = []
        self.operators: list[int] = []
        """The domain of each that was added."""
        self.added: list[int] = []
        """Domains that sessions were given."""
        self.refused = -1
        """Which operator it refuses, if any."""
        self._functions: dict[int, Any] = {
            CREATE_STATUS: _CREATE_STATUS(self._create_status),
            CREATE_DOMAIN: _CREATE_DOMAIN(self._create_domain),
            DOMAIN_ADD: _OF_TWO(self._add_operator),
            ADD_DOMAIN: _OF_TWO(self._add_domain),
            RELEASE_DOMAIN: _RELEASE(self.released.append),
        }
        self._table = (c_void_p * (RELEASE_DOMAIN + 1))()
        for slot, function in self._functions.items():
            self._table[slot] = ctypes.cast(function, c_void_p)
        self.base = base_of(lambda version: ctypes.addressof(self._table))

    def _create_status(self, code: int, text: bytes) -> int:
        self.told.append(text)
        return STATUS

    def _create_domain(self, name: bytes, made: Any) -> None:
        assert name == b"ai.autosparse"
        self.domains.append(DOMAIN + len(self.domains))
        made[0] = self.domains[-1]

    def _add_operator(self, domain: int, operator: int) -> int | None:
        if len(self.operators) == self.refused:
            return STATUS
        self.operators.append(domain)
        return None

    def _add_domain(self, options: int | None, domain: int) -> None:
        self.added.append(domain)


@pytest.fixture
def own_library(kernel_path: Path, tmp_path: Path) -> Path:
    """A copy that no session of this process uses: it remembers who registers."""
    return Path(shutil.copy(kernel_path, tmp_path / "own.so"))


def test_a_second_runtime_of_a_process_is_refused_by_its_own_words(own_library: Path) -> None:
    """Kernels call the functions of the runtime that has them, with its objects."""
    first, second = Runtime(), Runtime()
    assert registered(own_library, first.base) is None
    assert registered(own_library, second.base) == STATUS
    (text,) = second.told
    assert b"another ONNX Runtime" in text
    assert b"densely" in text
    assert (first.told, second.domains, second.operators, second.added) == ([], [], [], [])
    assert registered(own_library, first.base) is None
    assert len(first.operators) == OPERATORS
    assert first.added == first.domains * 2 == [DOMAIN] * 2


def test_operators_that_were_refused_once_are_not_missing_for_ever(own_library: Path) -> None:
    runtime = Runtime()
    runtime.refused = 3
    assert registered(own_library, runtime.base) == STATUS
    assert (runtime.added, runtime.released) == ([], [DOMAIN])
    runtime.refused = -1
    assert registered(own_library, runtime.base) is None
    assert runtime.operators.count(DOMAIN + 1) == OPERATORS
    assert runtime.added == [DOMAIN + 1]
