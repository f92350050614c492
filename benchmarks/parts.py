"""Long runs in parts: what a part came to is kept in a file, and the next run goes on from there.

A machine that has half an hour now and then gives the same command again; several machines of one
kind share a run when the files of their parts are copied into one directory.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.benchmark import Request
from benchmarks.model_files import UnavailableError
from benchmarks.rows import Row, failed_row

_NAMED_ONE_BY_ONE = 4


class Unfinished(Exception):  # noqa: N818 (it is no error)
    """Raised by a part that has kept what it did, and goes on in the next run."""


class PartResult(BaseModel):
    """What one part came to."""

    # a curve begins with infinity where nothing was found yet
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="constants"
    )

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    figures: Mapping[str, tuple[float, ...]] = {}
    """Name -> figures, from which rows are made when all parts are there."""
    rows: tuple[Row, ...] = ()
    """Rows of a part that needs no other."""
    words: Mapping[str, str] = {}
    """Name -> word, such as how a cell ended, that are counted when all parts are there."""
    note: str = ""
    """Circumstances, to be told in a row."""


@dataclass
class Parts:
    """The parts of one benchmark: those that were run before, and those that this run may run.

    Results are kept by environment, since figures of two machines are not pooled, and apart for
    quick runs.
    """

    request: Request
    environment: str
    left: list[str] = field(default_factory=list)
    """Parts that are still to be run."""
    failed: dict[str, str] = field(default_factory=dict)
    """Part -> why it came to nothing; the next run tries again."""
    _asked_for: int = 0
    _has_told_of_known: bool = False

    @property
    def directory(self) -> Path:
        """Where results lie."""
        scale = "quick" if self.request.quick else "full"
        return self.request.directory / "parts" / self.environment / scale

    def known(self, name: str) -> PartResult | None:
        """What a part came to before; None where it was not run to its end."""
        path = self._path(name)
        return PartResult.model_validate_json(path.read_bytes()) if path.is_file() else None

    def get(self, name: str, make: Callable[[], PartResult]) -> PartResult | None:
        """What a part came to, run now if it was not before.

        Returns:
            None where it is left for another run, or failed.

        Raises:
            UnavailableError: what it works on is not here.
        """
        self._asked_for += self._is_asked_for(name)
        found = self.known(name)
        if found is not None and not self._has_told_of_known:
            self.request.say(f"what lies in {self.directory} is not run again")
            self._has_told_of_known = True
        if found is not None or name in self.failed or name in self.left:
            return found
        if not self._may_begin(name):
            self.left.append(name)
            return None
        self.request.say(f"part {name}")
        try:
            found = make()
        except UnavailableError:
            raise
        except Unfinished as reason:
            self.request.say(f"part {name}: {reason}")
            self.left.append(name)
        except Exception as error:  # whatever it is, the other parts are run
            self.request.say(traceback.format_exc())
            self.failed[name] = f"{type(error).__name__}: {error}"
        else:
            self._keep(name, found)
        return found

    def rows(self, name: str, make: Callable[[], Iterable[Row]]) -> Iterator[Row]:
        """The rows of a part that needs no other; none where it is left or failed."""
        found = self.get(name, lambda: PartResult(rows=tuple(make())))
        yield from () if found is None else found.rows

    def wait_for(self, name: str) -> None:
        """Say that further parts can only be begun behind one that is left, or failed."""
        self._asked_for += 1
        waiting = f"those that need {name}"
        if waiting not in self.left:
            self.left.append(waiting)

    def remaining_rows(self) -> Iterator[Row]:
        """What failed, and what is left: to be given when everything else is."""
        for name, reason in self.failed.items():
            yield failed_row(name, reason, self.environment)
        if self.request.parts and not self._asked_for:
            asked = " ".join(f"--part {pattern}" for pattern in self.request.parts)
            yield failed_row(asked, "no part has such a name", self.environment)
        if self.left:
            yield Row(
                what="parts left", figure=len(self.left), environment=self.environment,
                note=f"{_named(self.left)}; the same command with the same --directory runs them",
            )  # fmt: skip

    def _may_begin(self, name: str) -> bool:
        minutes = self.request.minutes
        if not self._is_asked_for(name):
            return False
        return minutes is None or self.request.elapsed() < 60 * minutes

    def _is_asked_for(self, name: str) -> bool:
        patterns = self.request.parts
        return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _keep(self, name: str, result: PartResult) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def _named(parts: Sequence[str]) -> str:
    """All of them, as `--part` takes them: where there are many, by the folder they are in."""
    if len(parts) <= _NAMED_ONE_BY_ONE:
        return ", ".join(parts)
    folders = Counter(f"{folder}/*" if folder else name for folder, _, name in map(_split, parts))
    return ", ".join(
        f"{pattern} ({count})" if count > 1 else pattern for pattern, count in folders.items()
    )


def _split(name: str) -> tuple[str, str, str]:
    return name.rpartition("/")
