"""The dispatcher: hands tasks to workers, and gives answers in order whatever befalls the workers.

It knows neither Ray nor a clock of its own: a crew starts tasks and tells what ended, so that a
thousand workers can be played through in a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from autosparse.errors import CandidateError, HungError, NoMemoryError, WorkerError

TaskT = TypeVar("TaskT")
TaskT_in = TypeVar("TaskT_in", contravariant=True)
AnswerT = TypeVar("AnswerT")
AnswerT_out = TypeVar("AnswerT_out", covariant=True)


@dataclass(frozen=True)
class Died:
    """A worker that ended before it had answered."""

    reason: str
    hung: bool = False
    """Whether it was ended, since it did not answer in time."""


@dataclass(frozen=True)
class Ended(Generic[AnswerT_out]):
    """What became of the task that a worker had."""

    worker: int
    outcome: AnswerT_out | Died


@dataclass(frozen=True)
class Joined:
    """A worker that takes the place of one that was replaced, and was not there at once."""

    worker: int


class Crew(Protocol[TaskT_in, AnswerT_out]):
    """Workers, each with a number of its own, that take one task at a time."""

    @property
    def workers(self) -> Sequence[int]:
        """Numbers of those that are there."""

    def now(self) -> float:
        """Seconds on the crew's clock."""

    def start(self, worker: int, task: TaskT_in) -> None:
        """Give an idle worker a task."""

    def wait(self, seconds: float) -> Sequence[Ended[AnswerT_out] | Joined]:
        """Wait until a task ends or a worker joins, `seconds` at most: whatever did."""

    def replace(self, worker: int) -> bool:
        """End a worker, if it lives, and put a new one in its place.

        Returns:
            Whether it is there; if not, it joins when there is room for it, or never.
        """


@dataclass(frozen=True)
class Patience:
    """When to give up."""

    task_seconds: float = 900.0
    """A task that takes longer hangs: its worker is replaced."""
    attempts: int = 3
    """A task that ends this many workers is given up: it is what ends them, or memory is short."""
    fruitless_deaths: int = 12
    """Deaths without an answer in between, beyond one for each worker, that are not the tasks'."""
    alone_seconds: float = 600.0
    """How long to wait where no worker is left: others may have to give their cores back."""


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
        self._idle = list(reversed(crew.workers))
        self._most_deaths = len(self._idle) + self._patience.fruitless_deaths
        self._again: deque[_Entry[TaskT]] = deque()
        self._running: dict[int, _Entry[TaskT]] = {}
        self._answers: dict[int, AnswerT | CandidateError] = {}
        self._deaths = 0

    def run(self, tasks: Iterable[TaskT]) -> list[AnswerT | CandidateError]:
        """Answers in the order of the tasks. A task is drawn when a worker is idle, not before.

        Raises:
            WorkerError: workers die again and again without any answer, or none is left.
        """
        source = (_Entry(number, task, self._limit(task)) for number, task in enumerate(tasks))
        self._start(source)
        while self._running or (not self._idle and self._has_more(source)):
            if self._running:
                self._collect()
            else:
                self._wait_for_a_worker()
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

    def _has_more(self, source: Iterator[_Entry[TaskT]]) -> bool:
        """Whether there is work for a worker that joins."""
        if not self._again:
            self._again.extend(entry for entry in (next(source, None),) if entry is not None)
        return bool(self._again)

    def _collect(self) -> None:
        first = min(entry.started + entry.limit for entry in self._running.values())
        if not self._take(self._crew.wait(max(first - self._crew.now(), 0.0))):
            self._end_the_hanging()

    def _wait_for_a_worker(self) -> None:
        """Nobody is left: wait until one joins.

        Raises:
            WorkerError: none does.
        """
        end = self._crew.now() + self._patience.alone_seconds
        while not self._idle:
            left = end - self._crew.now()
            if left <= 0:
                raise WorkerError(
                    "no worker is left, and no other one found room within "
                    f"{self._patience.alone_seconds:.0f} s",
                    hint="run the same command with --resume when there are free cores, or with "
                    "fewer --workers",
                )
            self._take(self._crew.wait(left))

    def _take(self, events: Sequence[Ended[AnswerT] | Joined]) -> bool:
        """Take in what happened; whether anything did."""
        for event in events:
            if isinstance(event, Joined):
                self._idle.append(event.worker)
                continue
            entry = self._running.pop(event.worker, None)
            if entry is None:  # it hung, and was replaced before it was known to be dead
                continue
            if isinstance(event.outcome, Died):
                self._bury(event.worker, entry, event.outcome)
            else:
                self._deaths = 0
                self._idle.append(event.worker)
                self._answers[entry.number] = event.outcome
        return bool(events)

    def _end_the_hanging(self) -> None:
        now = self._crew.now()
        hanging = [w for w, entry in self._running.items() if now - entry.started >= entry.limit]
        for worker in hanging:
            entry = self._running.pop(worker)
            reason = f"it did not answer within {entry.limit:.0f} s"
            self._bury(worker, entry, Died(reason, hung=True))

    def _bury(self, worker: int, entry: _Entry[TaskT], death: Died) -> None:
        """Replace a worker that died, and give its task to another, or up."""
        self._deaths += 1
        if self._deaths > self._most_deaths:
            raise WorkerError(
                f"worker processes keep dying: {death.reason}",
                hint="run with --workers 0 to see why, or with fewer workers if memory is short",
            )
        if self._crew.replace(worker):
            self._idle.append(worker)
        if entry.attempts < self._patience.attempts:
            self._again.append(entry)
            return
        # a worker that dies is out of memory, most often; one that hangs has some left
        kind = HungError if death.hung else NoMemoryError
        self._answers[entry.number] = kind(
            f"it ended {entry.attempts} worker processes: {death.reason}"
        )
