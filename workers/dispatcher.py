"""The dispatcher: hands tasks to workers, and gives answers in order whatever befalls the workers.

It knows neither Ray nor a clock of its own: a crew starts tasks and tells what ended, so that a
thousand workers can be played through in a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from autosparse.errors import CandidateError, NoMemoryError, WorkerError

TaskT = TypeVar("TaskT")
TaskT_in = TypeVar("TaskT_in", contravariant=True)
AnswerT = TypeVar("AnswerT")
AnswerT_out = TypeVar("AnswerT_out", covariant=True)


@dataclass(frozen=True)
class Died:
    """A worker that ended before it had answered."""

    reason: str


@dataclass(frozen=True)
class Ended(Generic[AnswerT_out]):
    """What became of the task that a worker had."""

    worker: int
    outcome: AnswerT_out | Died


class Crew(Protocol[TaskT_in, AnswerT_out]):
    """Workers, each with a number below `size`, that take one task at a time."""

    @property
    def size(self) -> int:
        """How many workers there are."""

    def now(self) -> float:
        """Seconds on the crew's clock."""

    def start(self, worker: int, task: TaskT_in) -> None:
        """Give an idle worker a task."""

    def wait(self, seconds: float) -> Sequence[Ended[AnswerT_out]]:
        """Wait until a task ends, `seconds` at most: all that ended, perhaps none."""

    def replace(self, worker: int) -> None:
        """End a worker, if it lives, and put a new one in its place."""


@dataclass(frozen=True)
class Patience:
    """When to give up."""

    task_seconds: float = 900.0
    """A task that takes longer hangs: its worker is replaced."""
    attempts: int = 3
    """A task that ends this many workers is given up: it is what ends them, or memory is short."""
    fruitless_deaths: int = 12
    """Deaths without an answer in between, beyond one for each worker, that are not the tasks'."""


@dataclass
class _Entry(Generic[TaskT]):
    number: int
    task: TaskT
    limit: float
    """Seconds, beyond which it hangs."""
    attempts: int = 0
    started: float = 0.0


class Dispatcher(Generic[TaskT, AnswerT]):
    """Runs tasks on a crew, once.

    Args:
        crew: the workers, all of them idle.
        patience: when to give up.
        limit_of: seconds that a task may take where it says so itself; None where it does not.
    """

    def __init__(
        self,
        crew: Crew[TaskT, AnswerT],
        patience: Patience | None = None,
        limit_of: Callable[[TaskT], float | None] = lambda task: None,
    ) -> None:
        self._crew, self._limit_of = crew, limit_of
        self._patience = patience or Patience()
        self._idle = list(reversed(range(crew.size)))
        self._again: deque[_Entry[TaskT]] = deque()
        self._running: dict[int, _Entry[TaskT]] = {}
        self._answers: dict[int, AnswerT | CandidateError] = {}
        self._deaths = 0

    def run(self, tasks: Iterable[TaskT]) -> list[AnswerT | CandidateError]:
        """Answers in the order of the tasks. A task is drawn when a worker is idle, not before.

        Raises:
            WorkerError: workers die again and again without any answer.
        """
        source = (_Entry(number, task, self._limit(task)) for number, task in enumerate(tasks))
        self._start(source)
        while self._running:
            self._collect()
            self._start(source)
        return [self._answers[number] for number in sorted(self._answers)]

    def _limit(self, task: TaskT) -> float:
        own = self._limit_of(task)
        return self._patience.task_seconds if own is None else own

    def _start(self, source: Iterator[_Entry[TaskT]]) -> None:
        while self._idle:
            entry = self._again.popleft() if self._again else next(source, None)
            if entry is None:
                return
            worker = self._idle.pop()
            entry.attempts += 1
            entry.started = self._crew.now()
            self._running[worker] = entry
            self._crew.start(worker, entry.task)

    def _collect(self) -> None:
        first = min(entry.started + entry.limit for entry in self._running.values())
        ended = self._crew.wait(max(first - self._crew.now(), 0.0))
        for one in ended:
            entry = self._running.pop(one.worker, None)
            if entry is None:  # it hung, and was replaced before it was known to be dead
                continue
            self._idle.append(one.worker)
            if isinstance(one.outcome, Died):
                self._bury(one.worker, entry, one.outcome)
            else:
                self._deaths = 0
                self._answers[entry.number] = one.outcome
        if not ended:
            self._end_the_hanging()

    def _end_the_hanging(self) -> None:
        now = self._crew.now()
        hanging = [w for w, entry in self._running.items() if now - entry.started >= entry.limit]
        for worker in hanging:
            entry = self._running.pop(worker)
            self._idle.append(worker)
            self._bury(worker, entry, Died(f"it did not answer within {entry.limit:.0f} s"))

    def _bury(self, worker: int, entry: _Entry[TaskT], death: Died) -> None:
        """Replace a worker that died, and give its task to another, or up."""
        self._deaths += 1
        if self._deaths > self._crew.size + self._patience.fruitless_deaths:
            raise WorkerError(
                f"worker processes keep dying: {death.reason}",
                hint="run with --workers 0 to see why, or with fewer workers if memory is short",
            )
        self._crew.replace(worker)
        if entry.attempts < self._patience.attempts:
            self._again.append(entry)
            return
        self._answers[entry.number] = NoMemoryError(
            f"it ended {entry.attempts} worker processes: {death.reason}"
        )
