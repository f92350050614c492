"""Memory: what was freed and not returned, what is free, and who found too little.

The C allocator keeps what was freed for the next request. Sessions, Hessians and batches come and
go by the hundred megabytes here; glibc raises the size from which it returns memory at once
whenever such a block is freed, so that the next ones stay.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import psutil

_M_ARENA_MAX = -8  # of glibc's malloc.h
_GROUP = Path("/sys/fs/cgroup")
# Limit, use and what the use is made of, as both versions of control groups tell them.
_GROUPS = (
    (_GROUP / "memory.max", _GROUP / "memory.current", _GROUP / "memory.stat"),
    (
        _GROUP / "memory" / "memory.limit_in_bytes",
        _GROUP / "memory" / "memory.usage_in_bytes",
        _GROUP / "memory" / "memory.stat",
    ),
)
# In the words of torch and of C++, which have no type for it.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "bad allocation")


def return_freed_memory() -> None:
    """Give what is free back to the system, where the allocator knows how."""
    _trim()()


def share_arenas() -> None:
    """Let the threads of this process share two arenas of the allocator, where it has such.

    By default glibc opens up to eight for each core, and each keeps what is freed in it: a server's
    forty threads, each with a large answer once, hold all of those at the same time. To be called
    before there are threads.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if option is not None:
        option(_M_ARENA_MAX, 2)


@cache
def _trim() -> Callable[[], object]:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    return (lambda: trim(0)) if trim is not None else (lambda: None)


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, its container and its own limit."""
    free = min(psutil.virtual_memory().available, _left_by_own_limit())
    for limit, used, cached in _GROUPS:
        most, taken = _number(limit), _number(used)
        if most is not None and taken is not None:
            # what is cached of files is given up for whoever asks
            free = min(free, most - taken + _file_cache(cached))
    return max(free, 0)


def _left_by_own_limit() -> int:
    """What the limit on a process's data leaves of it: jobs of a server have one."""
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY:
        return sys.maxsize
    return most - psutil.Process().memory_info().data


def was_short_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def _number(path: Path) -> int | None:
    """What a file of a control group says; None where there is none, or no limit."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _file_cache(path: Path) -> int:
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        return 0
    found = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
    return found.get("total_inactive_file", found.get("inactive_file", 0))
