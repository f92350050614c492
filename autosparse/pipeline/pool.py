"""The contract of a pool: where compressing and evaluating run, here or in other processes.

A pool never decides anything. Tasks are functions of a kit; their answers come back in the order
of the tasks, so that a search goes the same way however many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, Self, TypeVar, runtime_checkable

from autosparse.errors import CandidateError, NoMemoryError
from autosparse.heap import was_short_of_memory


class Kit(Protocol):
    """What the tasks of one kind share. A worker holds it; so it can be pickled."""

    @property
    def files(self) -> Path:
        """Where its scratch directories lie."""

    def at(self, files: Path) -> Self:
        """The kit for another process, with scratch directories of its own."""

    def loaded(self) -> Self:
        """The kit for another machine: what lies in files here comes along."""


K = TypeVar("K", bound=Kit)
K_in = TypeVar("K_in", bound=Kit, contravariant=True)
A = TypeVar("A")
A_out = TypeVar("A_out", covariant=True)


class Task(Protocol[K_in, A_out]):
    """One piece of work that depends on nothing but the kit. It can be pickled."""

    def __call__(self, kit: K_in, /) -> A_out:
        """Do it.

        Raises:
            CandidateError: this candidate failed; the others go on.
        """


@runtime_checkable
class LongTask(Protocol):
    """A task that says how long it may take; others are given as long as the pool likes."""

    @property
    def limit_seconds(self) -> float:
        """Beyond this, it hangs."""


class Pool(Protocol):
    """Runs tasks."""

    @property
    def sees_files(self) -> bool:
        """Whether tasks may read and write this machine's files."""

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        """Answers in the order of the tasks; a failed candidate's error takes its place.

        Tasks are drawn one by one as there is room for them, so that what they carry need not be
        in memory at once. When this returns, nothing is running any more.

        Raises:
            WorkerError: the processes keep dying, whatever they are given.
        """


class InProcess:
    """Implements `Pool` in this process, one task after the other."""

    sees_files = True

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        """See `Pool.run`."""
        return [attempt(task, kit) for task in tasks]


def attempt(task: Task[K, A], kit: K) -> A | CandidateError:
    """The answer, or why this candidate has none; whatever is unexpected is raised."""
    try:
        return task(kit)
    except CandidateError as error:
        return error
    except MemoryError:
        return NoMemoryError("it needs more memory than there is")
    except RuntimeError as error:  # what torch makes of it
        if was_short_of_memory(error):
            return NoMemoryError(f"it needs more memory than there is: {error}")
        raise


def expected(answer: A | CandidateError) -> A:
    """The answer of a task that may not fail.

    Raises:
        CandidateError: it did.
    """
    if isinstance(answer, CandidateError):
        raise answer
    return answer
