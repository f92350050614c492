"""Workers on a clock that only jumps: hours of a thousand of them in a second."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workers.dispatcher import Died, Ended, Joined


@dataclass(frozen=True)
class Fate:
    """What becomes of one attempt at a task."""

    seconds: float
    crashes: bool = False
    """Whether its worker dies at the end of these seconds."""


@dataclass
class SimulatedCrew:
    """Implements `workers.dispatcher.Crew`; a task's answer is the task itself."""

    size: int
    fate: Callable[[int], Fate]
    """Asked at every attempt."""
    restart_seconds: float = 0.0
    """How long it takes to replace a worker."""
    clock: float = 0.0
    last_new: float = 0.0
    """When the last task was begun that had not been tried before."""
    attempts: list[int] = field(default_factory=list)
    """The task of every attempt, in order."""
    replaced: int = 0
    _events: list[tuple[float, int, int, int, bool]] = field(default_factory=list)
    _ready: dict[int, float] = field(default_factory=dict)
    _current: dict[int, int] = field(default_factory=dict)
    _begun: set[int] = field(default_factory=set)
    _useful: list[tuple[float, float]] = field(default_factory=list)

    @property
    def workers(self) -> Sequence[int]:
        """All of them: whoever is replaced is there, if late."""
        return range(self.size)

    def now(self) -> float:
        """Seconds on the jumping clock."""
        return self.clock

    def start(self, worker: int, task: int) -> None:
        """Begin as soon as the worker is there."""
        fate = self.fate(task)
        end = max(self.clock, self._ready.get(worker, 0.0)) + fate.seconds
        self.attempts.append(task)
        self._current[worker] = len(self.attempts)
        heapq.heappush(self._events, (end, len(self.attempts), worker, task, fate.crashes))
        if task not in self._begun:
            self._begun.add(task)
            self.last_new = self.clock
        if not fate.crashes:
            self._useful.append((end - fate.seconds, end))

    def wait(self, seconds: float) -> Sequence[Ended[int] | Joined]:
        """Jump to the next event, `seconds` ahead at most."""
        until = self.clock + seconds
        while self._events and self._events[0][0] <= until:
            end, attempt, worker, task, crashes = heapq.heappop(self._events)
            if self._current.get(worker) == attempt:  # else its worker was replaced meanwhile
                self.clock = end
                return [Ended(worker, Died("it crashed") if crashes else task)]
        self.clock = until
        return []

    def replace(self, worker: int) -> bool:
        """A new one takes a while to start."""
        self.replaced += 1
        self._current.pop(worker, None)
        self._ready[worker] = self.clock + self.restart_seconds
        return True

    def busy_until(self, clock: float) -> float:
        """Seconds before `clock` that workers spent on attempts that were answered."""
        return sum(min(end, clock) - start for start, end in self._useful if start < clock)
