"""Runs what may crash, hang or take all memory in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

Attempt = tuple[str, Callable[[], str]]
"""A name, and what says how it ended."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended."""

    said: str
    grown: int
    """Bytes by which the process's peak grew meanwhile."""


def _held(field: int) -> int:
    """Bytes in a field of /proc/self/statm: 0 of address space."""
    return int(Path("/proc/self/statm").read_text().split()[field]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _work(attempts: Sequence[Attempt], memory: int, seconds: int, answers: Connection) -> None:
    limit = _held(0) + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # the threads of its pool were not forked along: whoever waits for them waits for ever
    torch.set_num_threads(1)
    for name, attempt in attempts:
        answers.send((name, None))
        signal.alarm(seconds)
        before = _peak()
        try:
            said = attempt()
        except Exception as error:  # whatever the runtime raises is an answer
            said = f"refused: {error}"
        signal.alarm(0)
        answers.send((name, Ending(said, _peak() - before)))
    answers.send(None)


def endings(
    attempts: Sequence[Attempt], memory: int = 2 << 30, seconds: int = 20
) -> dict[str, Ending]:
    """Run attempts in a forked process, one after another.

    Args:
        attempts: names must differ.
        memory: bytes of address space beyond what the process has already.
        seconds: for each attempt.

    Raises:
        AssertionError: one of them ended the process; it is named.
    """
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(attempts, memory, seconds, sending))
    child.start()
    sending.close()
    found: dict[str, Ending] = {}
    last = "the start"
    try:
        while (message := receiving.recv()) is not None:
            last, ending = message
            if ending is not None:
                found[last] = ending
    except EOFError:
        child.join()
        raise AssertionError(f"{last} ended the process: exit code {child.exitcode}") from None
    child.join()
    return found
