"""The emulated kernels, compiled once for all tests of them."""

from __future__ import annotations

import ctypes

import pytest

from tests.cuda_kernels.emulated import build, kernel_sources


@pytest.fixture(scope="session")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """A library with every kernel, as C, and the emulation."""
    return build(tmp_path_factory.mktemp("emulation"), kernel_sources())
