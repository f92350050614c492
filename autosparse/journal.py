"""An append-only file of records, one JSON document a line, that survives a kill at any moment."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from autosparse.errors import ConfigError, StorageError, first_problem

Record = TypeVar("Record", bound=BaseModel)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Journal(Generic[Record]):
    """Records of one type in the order they were written.

    A process killed in the middle of a write, or a full disk, leaves a torn last line: it is cut
    off when the file is opened, since whatever it described was not finished.

    Raises:
        StorageError: the file cannot be written, or a line before the last is damaged.
    """

    def __init__(self, path: Path, record_type: type[Record]) -> None:
        self.path = path
        self._type = record_type
        self._records = self._read()

    @property
    def records(self) -> tuple[Record, ...]:
        """Everything written so far."""
        return tuple(self._records)

    def append(self, record: Record) -> None:
        """Write one record and wait until the disk has it."""
        rest = memoryview(record.model_dump_json().encode() + b"\n")
        # unbuffered: what a full disk refuses must not be tried again when the file is closed
        with stored_safely(self.path), self.path.open("ab", buffering=0) as file:
            start = file.tell()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(start)  # the next append must not glue onto half a line
                raise
        self._records.append(record)

    def _read(self) -> list[Record]:
        if not self.path.exists():
            return []
        with stored_safely(self.path), self.path.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
        return _parsed(self.path, content[:whole], self._type)


def read_journal(path: Path, record_type: type[Record]) -> list[Record]:
    """What is in a journal that another process may be writing: the file is left as it is.

    Returns:
        Every record whose line is whole; none where there is no file.

    Raises:
        StorageError: a line is damaged.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    return _parsed(path, content[: content.rfind(b"\n") + 1], record_type)


def _parsed(path: Path, lines: bytes, record_type: type[Record]) -> list[Record]:
    records: list[Record] = []
    for number, line in enumerate(lines.splitlines(), start=1):
        try:
            records.append(record_type.model_validate_json(line))
        except (ValidationError, ConfigError) as error:
            raise damaged(f"line {number} of {path}", error) from error
    return records


def damaged(what: str, error: Exception) -> StorageError:
    """What a person is told of a file that a job has written, and that cannot be read."""
    return StorageError(
        f"{what} is damaged: {first_problem(error)}",
        hint="restore the file, or start again with another output directory",
    )


def write_journal(path: Path, records: Sequence[BaseModel]) -> None:
    """Write a whole file of records at once, in the place of what is there.

    Raises:
        StorageError: it cannot be written; what was there stays.
    """
    partial = path.with_name(path.name + ".partial")
    with stored_safely(path):
        partial.write_text("".join(r.model_dump_json() + "\n" for r in records), encoding="utf-8")
        partial.replace(path)


class stored_safely:  # noqa: N801 - reads as a statement: with stored_safely(path)
    """Turn what the operating system says about a full or read-only disk into a sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Translate an OSError; let everything else through."""
        if not isinstance(error, OSError):
            return
        if is_full(error):
            raise full_disk(self._path) from error
        raise StorageError(
            f"cannot write {self._path}: {error.strerror or error}",
            hint="make its directory writable, or give another --output-dir",
        ) from error


def is_full(error: OSError) -> bool:
    """Whether there is no room for what was to be written: a disk, a quota, a limit of a file."""
    return error.errno in _NO_ROOM


def full_disk(path: Path | str) -> StorageError:
    """What a person is told who can make room."""
    return StorageError(
        f"the disk is full while writing {path}",
        hint="free some space, then run the same command with --resume: nothing finished is lost",
    )
