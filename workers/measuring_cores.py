"""Cores that one measurement has for itself: jobs of a user take turns on a machine's cores.

Two jobs in two shells would time on the same last cores at once: canaries discard what disturbs,
and little would be left to either. Every core has two files that are locked with `flock`, which
the system gives back when a process ends, however it ends. Who measures holds the core's `turn`.
Who waits for it holds the core's `next`, so that a job that has just measured lines up behind:
with one lock alone, a process that runs would have it again before one that sleeps looks.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from autosparse.errors import WorkerError
from workers.user_state import state_directory

PATIENCE_SECONDS = 3600.0
"""How long others may have the cores before a job ends."""
# Whoever holds them for longer than any measurement takes has been stopped, or hangs.
_LONG_SECONDS = 300.0
# A look is one call of the system; a turn is seconds.
_LOOK_SECONDS = 0.05
# Tells machines apart that share a home, and containers of one machine do share it.
_MACHINE = Path("/proc/sys/kernel/random/boot_id")
Tell = Callable[[str], None]


def last_cores(allowed: Iterable[int], threads: int) -> tuple[int, ...]:
    """Where a measurement stays: the first cores serve most of a system's interrupts."""
    return tuple(sorted(allowed)[-threads:])


class MeasuringCores:
    """This machine's cores, as the jobs of one user share them.

    Args:
        directory: where the locks lie; None for a user without a home, who has no such place.
        tell: told in a sentence when others are waited for, and when they cannot be.
        patience_seconds: how long one measurement waits.
        clock: seconds that only grow.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        directory: Path | None,
        tell: Tell,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._directory = directory
        self._tell = tell
        self._patience = patience_seconds
        self._clock = clock
        self._sleep = sleep
        self._told: set[str] = set()

    @classmethod
    def of_this_user(cls, tell: Tell, patience_seconds: float = PATIENCE_SECONDS) -> MeasuringCores:
        """With the locks of all jobs of whoever runs this one."""
        return cls(state_directory("measuring"), tell, patience_seconds=patience_seconds)

    @contextmanager
    def held(self, cores: Iterable[int]) -> Iterator[None]:
        """Have cores alone among the measurements of this user, as long as the `with` lasts.

        Where locks cannot be written, that is told once, and nobody is waited for.

        Raises:
            WorkerError: others have them for too long.
        """
        with ExitStack() as locks:
            try:
                self._take(sorted(cores), locks)
            except OSError as error:
                self._tell_once(
                    "no locks",
                    "measurements of other jobs on this machine are not waited for: "
                    f"{self._directory} cannot be used ({error.strerror or error})",
                )
            yield

    def _take(self, cores: list[int], locks: ExitStack) -> None:
        """Take one core after the other, in the same order as everybody: nobody blocks a ring."""
        if self._directory is None:
            raise FileNotFoundError(None, "this user has no home")
        self._directory.mkdir(parents=True, exist_ok=True)
        machine = _MACHINE.read_text(encoding="utf-8").strip()
        for core in cores:
            path = self._directory / f"{machine}-core{core}"
            with self._locked(path.with_suffix(".next"), core):
                locks.enter_context(self._locked(path.with_suffix(".turn"), core))

    @contextmanager
    def _locked(self, path: Path, core: int) -> Iterator[None]:
        with path.open("a+", encoding="utf-8") as file:
            begun = self._clock()
            while not _lock(file.fileno()):
                self._wait(core, _holder(path.with_suffix(".turn")), self._clock() - begun)
            # for whoever waits, and wants to know for whom
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def _wait(self, core: int, holder: str, waited: float) -> None:
        if waited > self._patience:
            raise WorkerError(
                f"core {core} of this machine did not become free to measure on within "
                f"{self._patience:.0f} s: {holder} holds it",
                hint="if that process was stopped or hangs, end it; then run the same command "
                "with --resume: nothing finished is lost",
            )
        self._tell_once(
            "wait",
            f"another job ({holder}) measures on core {core} of this machine: both take turns, "
            "and waiting does not count as measuring",
        )
        if waited > _LONG_SECONDS:
            self._tell_once(
                "long wait",
                f"core {core} has been waited for since {_LONG_SECONDS:.0f} s, which no "
                f"measurement takes: is {holder} stopped?",
            )
        self._sleep(_LOOK_SECONDS)

    def _tell_once(self, about: str, text: str) -> None:
        """The first time that it is so: two jobs in turns would else tell it for hours."""
        if about not in self._told:
            self._told.add(about)
            self._tell(text)


def _holder(path: Path) -> str:
    """Who holds a core's turn, in words."""
    number = path.read_text(encoding="utf-8") if path.exists() else ""
    return f"process {number}" if number else "a process"


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
