"""Memory that was freed but not returned: the C allocator keeps it for the next request.

Sessions, Hessians and batches come and go by the hundred megabytes here. glibc raises the size
from which it returns memory at once whenever such a block is freed, so that the next ones stay.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def return_freed_memory() -> None:
    """Give what is free back to the system, where the allocator knows how."""
    _trim()()


@cache
def _trim() -> Callable[[], object]:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    return (lambda: trim(0)) if trim is not None else (lambda: None)
