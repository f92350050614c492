"""Fewer cores than the machine has, for figures that are asked for on so many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def held_cores(count: int) -> Iterator[int]:
    """Keep every thread of this process, and those that it begins, on so many of its cores.

    Pools of libraries have threads already, which the process does not take along.

    Yields:
        On how many they are: fewer where there are no more.
    """
    before = {thread: os.sched_getaffinity(thread) for thread in _threads()}
    everywhere = os.sched_getaffinity(0)
    kept = set(sorted(everywhere)[:count])
    _hold(dict.fromkeys(before, kept))
    try:
        yield len(kept)
    finally:
        _hold({thread: before.get(thread, everywhere) for thread in _threads()})


def _threads() -> list[int]:
    return [thread.id for thread in psutil.Process().threads()]


def _hold(cores: dict[int, set[int]]) -> None:
    for thread, own in cores.items():
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(thread, own)
