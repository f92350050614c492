"""The built library, once for all tests of the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kernels.kernel_core import KernelLibrary
from backends.kernels.library import kernel_library


@pytest.fixture(scope="session")
def kernel_path() -> Path:
    """Path of the library of all kernels."""
    return kernel_library()


@pytest.fixture(scope="session")
def library(kernel_path: Path) -> Iterator[KernelLibrary]:
    """The same, loaded."""
    loaded = KernelLibrary(kernel_path)
    best = loaded.instruction_set
    yield loaded
    loaded.force_instruction_set(best)
