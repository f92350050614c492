"""Canaries: three fixed workloads that show when a machine is not in its quiet state.

Shared machines throttle their vector units for tens of seconds while loads keep their speed,
which changes the ratio of a dense to a sparse kernel; interleaving alone does not see it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autosparse.evaluation.measurement import CanaryReading
from autosparse.evaluation.quiet_state import QuietState, Seconds, held_to, quietest

TOLERANCE = 0.05
"""A block counts only while its canaries are at most this much off their best."""
_REPEATS = 7
_PAGE = 4096
_STREAMED = 192 * 1024
"""Bytes that are read, and as many that are written: beyond a first-level cache, and less than half
of a second-level one, so that no neighbour in memory drives them out of it."""
_CHAINED = 2000 * 8
"""Bytes of the integers in a chain, and of what becomes of them: inside a first-level cache, so
that nothing but the core's clock is seen."""


class Canaries:
    """Take readings, and remember what this machine does at its best.

    Args:
        run: runs the three workloads once; None for the real ones.
    """

    def __init__(self, run: Callable[[], CanaryReading] | None = None) -> None:
        self._run = run or Workloads().run
        self._readings: list[Seconds] = []
        self._begun_at = 0
        self._known: CanaryReading | None = None
        self._cores: tuple[int, ...] = ()

    def begin(self, quiet: QuietState | None, cores: Sequence[int]) -> None:
        """A measurement begins.

        Args:
            quiet: what earlier measurements saw, of other processes too; it counts only if it is
                of the same cores.
            cores: where this process runs.
        """
        self._begun_at = len(self._readings)
        self._cores = tuple(cores)
        self._known = quiet.best if quiet is not None and quiet.cores == self._cores else None

    def read(self) -> CanaryReading:
        """Run all three once."""
        reading = self._run()
        self._readings.append(reading.seconds)
        return reading

    def best(self) -> CanaryReading:
        """The machine in its quiet state, as far as this process has seen it or was told."""
        own = quietest(self._readings)
        return own if self._known is None else held_to(own, self._known)

    def seen(self) -> QuietState:
        """The best of this measurement alone."""
        return QuietState(best=quietest(self._readings[self._begun_at :]), cores=self._cores)


class Workloads:
    """Three workloads on arrays of their own."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._a = rng.standard_normal((96, 96), dtype=np.float32)
        self._b = rng.standard_normal((96, 96), dtype=np.float32)
        self._product = np.empty_like(self._a)
        self._source = _on_a_page(_STREAMED)
        self._sink = _on_a_page(_STREAMED, offset=_PAGE // 2)
        self._integers = _on_a_page(_CHAINED).view(np.int64)
        self._products = _on_a_page(_CHAINED, offset=_PAGE // 2).view(np.int64)

    def run(self) -> CanaryReading:
        """Run all three, each the fastest of a few repeats (about 2 ms in all)."""
        return CanaryReading(
            fma_seconds=_fastest(self._fma),
            stream_seconds=_fastest(self._stream),
            scalar_seconds=_fastest(self._scalar),
        )

    def _fma(self) -> None:
        for _ in range(12):
            np.dot(self._a, self._b, out=self._product)

    def _stream(self) -> None:
        for _ in range(12):
            np.copyto(self._sink, self._source)

    def _scalar(self) -> None:
        # a chain of dependent multiplications, which no compiler makes wide; an interpreted loop
        # would do the same work with three times the jitter
        for _ in range(20):
            np.multiply.accumulate(self._integers, out=self._products)


def _on_a_page(size: int, offset: int = 0) -> NDArray[np.uint8]:
    """An array that begins so many bytes after the beginning of a page.

    A load waits for a store before it whose address has the same last twelve bits. Where the heap
    puts two arrays that are copied decides how often that is so: by 40 % of the time, in one
    process and not in the next, and from one moment to another.
    """
    room = np.zeros(size + 2 * _PAGE, dtype=np.uint8)
    start = -room.ctypes.data % _PAGE + offset
    return room[start : start + size]


def _fastest(work: Callable[[], None]) -> float:
    """Seconds of the fastest repeat: whatever disturbs a repeat only ever adds time."""
    fastest = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest
