"""What a benchmark is: something that yields rows as it measures them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from benchmarks.rows import Row


@dataclass(frozen=True)
class Request:
    """What the command line asks of a benchmark."""

    quick: bool
    """Less of everything: ends within five minutes on two quiet cores."""
    assets: Path
    """Folder that holds `models/` and `data/`."""
    directory: Path
    """Where files of the run may lie."""
    models: tuple[str, ...] = ()
    """Names of the models, or groups of shapes, to run; all where it is empty."""
    parts: tuple[str, ...] = ()
    """Patterns of the names of parts to run; all where it is empty."""
    minutes: float | None = None
    """No part is begun after so many; None for no end."""
    opponents: Mapping[str, Path] = field(default_factory=dict)
    """Other engine -> the interpreter that has it."""
    started: float = field(default_factory=time.monotonic)

    @property
    def is_in_parts(self) -> bool:
        """Whether a part is to end soon, and the next run to go on with it."""
        return bool(self.parts) or self.minutes is not None

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """Tell a waiting person where the run is, on standard error."""
        print(f"{self.elapsed():7.1f}s {text}", file=sys.stderr, flush=True)


@runtime_checkable
class Benchmark(Protocol):
    """One benchmark."""

    summary: str
    """One line for the list of benchmarks."""

    def rows(self, request: Request) -> Iterator[Row]:
        """Measure, and give every row as soon as it is known.

        What fails becomes a row of its own; nothing is raised that would lose the others.
        """


@runtime_checkable
class InParts(Benchmark, Protocol):
    """A benchmark that takes hours, and can be run in parts of half an hour."""

    in_parts: Literal[True]
