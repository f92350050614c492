from __future__ import annotations

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from autosparse import heap
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


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 10_000),
        ({"max": "max\n", "current": "700\n"}, 10_000),
        ({"max": "900\n", "current": "700\n"}, 200),
        ({"max": "900\n", "current": "700\n", "stat": "anon 5\ninactive_file 300\n"}, 500),
        ({"max": "900\n", "current": "950\n"}, 0),
        ({"max": "90000\n", "current": "700\n"}, 10_000),
    ],
)
def test_what_is_free_is_what_the_container_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    paths = tuple(tmp_path / name for name in ("max", "current", "stat"))
    monkeypatch.setattr(heap, "_GROUPS", (paths,))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    assert heap.free_memory() == expected


def test_a_limit_on_the_process_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_GROUPS", ())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    taken = SimpleNamespace(memory_info=lambda: SimpleNamespace(data=700))
    monkeypatch.setattr(psutil, "Process", lambda: taken)
    for limit, expected in ((1_000, 300), (600, 0), (resource.RLIM_INFINITY, 10_000)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, limit=limit: (limit, limit))
        assert heap.free_memory() == expected
