from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from autosparse.heap import return_freed_memory

_BLOCK = 64 << 10  # below the size that the C allocator maps for itself
_BLOCKS = 2000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be asked")
def test_freed_memory_goes_back_to_the_system() -> None:
    process = psutil.Process()
    blocks = [np.ones(_BLOCK, dtype=np.uint8) for _ in range(_BLOCKS)]
    last = np.ones(_BLOCK, dtype=np.uint8)  # on top of the heap: what is below cannot just shrink
    held = process.memory_info().rss
    del blocks
    return_freed_memory()
    given_back = held - process.memory_info().rss
    assert last.all()
    assert given_back > _BLOCK * _BLOCKS / 2
