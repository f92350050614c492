"""Snapshots: a job's own files at one moment, kept where every runner can fetch them.

A snapshot is what a kill at that moment would have left on the disk, which is all that a job needs
to go on. Files are cut into pieces, and the store is sent those that it lacks: of a log that has
grown its end, of a level table the weights that are new. A list of the files is written last; so a
snapshot is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from api.snapshot_store import SnapshotStore, digest_in, piece_name
from autosparse.errors import StorageError
from autosparse.journal import stored_safely

MARKER = "snapshot"
"""In a job's directory: the name of the snapshot that the directory goes on from."""
ENDED = "ended.json"
"""In a job's directory: the end that it has come to, until that is delivered."""
_PIECE_BYTES, _SENT_AT_ONCE_BYTES = 4 << 20, 32 << 20
_LOOKS, _BETWEEN_LOOKS_SECONDS, _TRIES = 40, 0.05, 3
# Links and locks of this machine; what is made again; what is delivered, and so kept elsewhere.
_LEFT_OUT = frozenset(
    ("given", "scratch", "bundle", "lock", "process.lock", "internal.log", MARKER, ENDED)
)
_HALF_WRITTEN = ".partial"


class KeptFile(BaseModel):
    """One file of a snapshot."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    size_bytes: int
    """Its size."""
    pieces: tuple[str, ...]
    """Names of its pieces, in order."""


class SnapshotList(BaseModel):
    """What a snapshot consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this list's schema."""
    files: dict[str, KeptFile]
    """The files by their paths from the job's directory on."""


@dataclass(frozen=True)
class _Seen:
    """How a file looked: one that looks the same is the same."""

    inode: int
    size: int
    modified_ns: int


class SnapshotMaker:
    """Makes snapshots of one directory while a job works there; the job is not held up.

    Args:
        store: where they are kept.
        job: whose directory it is.
        directory: the job's.
        writer: a name that no other maker has.
        last: name of the job's last snapshot; None where there is none.
    """

    def __init__(
        self, store: SnapshotStore, job: str, directory: Path, writer: str, last: str | None
    ) -> None:
        self._store, self._job, self._directory, self._writer = store, job, directory, writer
        self._made: dict[Path, tuple[_Seen, KeptFile]] = {}
        self._last = last
        self._stored: set[str] = set()

    def make(self) -> str:
        """Make a snapshot of the directory as it is now.

        Returns:
            Its name.

        Raises:
            StorageError: the store cannot be used, or the directory is written to all the time.
        """
        if self._last is not None:
            self._stored = _names(self._last, read_list(self._store, self._job, self._last))
            self._last = None
        for _ in range(_TRIES):
            with contextlib.suppress(OSError, EOFError):  # removed or cut off since it was seen
                return self._made_of(_one_moment(self._directory))
        raise StorageError(f"the files of the job {self._job} change all the time")

    def settle(self, name: str) -> None:
        """A snapshot is the job's from now on: forget what only earlier ones of ours had.

        Raises:
            StorageError: the store cannot be written to; it may be told again.
        """
        (self._directory / MARKER).write_text(name, encoding="ascii")
        needed = {name, *(piece for _, kept in self._made.values() for piece in kept.pieces)}
        ours = {piece for piece in self._stored if piece.startswith(f"{self._writer}-")}
        self._store.discard(self._job, ours - needed)
        self._stored -= ours - needed

    def _made_of(self, seen: dict[Path, _Seen]) -> str:
        """Send what the store lacks of the files; the name of the list."""
        sending = _Sending(self._store, self._job, self._writer, self._stored)
        made = {path: (look, self._kept(path, look, sending)) for path, look in seen.items()}
        files = {path.relative_to(self._directory).as_posix(): f for path, (_, f) in made.items()}
        name = sending.add(SnapshotList(files=files).model_dump_json().encode())
        sending.flush()
        self._made = made
        return name

    def _kept(self, path: Path, look: _Seen, sending: _Sending) -> KeptFile:
        before = self._made.get(path)
        if before is not None and before[0] == look:
            return before[1]
        pieces = tuple(sending.add(piece) for piece in _pieces(path, look))
        return KeptFile(size_bytes=look.size, pieces=pieces)


class _Sending:
    """Pieces on their way to the store: those that it has are not sent."""

    def __init__(self, store: SnapshotStore, job: str, writer: str, stored: set[str]) -> None:
        self._store, self._job, self._writer, self._stored = store, job, writer, stored
        self._names = {digest_in(name): name for name in stored}
        self._waiting: dict[str, bytes] = {}
        self._bytes = 0

    def add(self, content: bytes) -> str:
        """Send a piece, now or soon, unless the store has it; its name."""
        name = piece_name(self._writer, content)
        if digest_in(name) in self._names:
            return self._names[digest_in(name)]
        self._names[digest_in(name)] = name
        self._waiting[name] = content
        self._bytes += len(content)
        if self._bytes >= _SENT_AT_ONCE_BYTES:
            self.flush()
        return name

    def flush(self) -> None:
        """Send what waits."""
        self._store.write(self._job, self._waiting)
        self._stored.update(self._waiting)
        self._waiting, self._bytes = {}, 0


def read_list(store: SnapshotStore, job: str, name: str) -> SnapshotList:
    """What a snapshot consists of.

    Raises:
        StorageError: the store cannot be read, or another version wrote the list.
    """
    (content,) = store.read(job, [name])
    try:
        return SnapshotList.model_validate_json(content)
    except ValidationError as error:
        raise StorageError(
            f"what is kept of the job {job} was kept by another version",
            hint="let runners of one version share a database",
        ) from error


def fetch_files(
    store: SnapshotStore, job: str, name: str, into: Path, wanted: Callable[[str], bool]
) -> None:
    """Put files of a snapshot into a directory.

    Args:
        store: where it is kept.
        job: whose it is.
        name: of the snapshot.
        into: the directory; it is made.
        wanted: whether a file is meant, by its path from the job's directory on.

    Raises:
        StorageError: the store cannot be read, or the disk is full.
    """
    listed = read_list(store, job, name)
    chosen = {path: kept for path, kept in listed.files.items() if wanted(path)}
    pieces = store.read(job, [piece for kept in chosen.values() for piece in kept.pieces])
    with stored_safely(into):
        into.mkdir(mode=0o700, parents=True)
        for path, kept in chosen.items():
            place = into / path
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with place.open("wb") as file:
                for _ in kept.pieces:
                    file.write(next(pieces))


def restore(
    store: SnapshotStore, job: str, name: str | None, directory: Path, scratch: Path
) -> None:
    """Make a job's directory what a snapshot says, in the place of what is there.

    Args:
        store: where the snapshot is kept.
        job: whose it is.
        name: of the snapshot; None for a job that has none, and so an empty directory.
        directory: the job's; it is changed when everything has been fetched.
        scratch: a path beside it that nobody uses.

    Raises:
        StorageError: as `fetch_files`; the directory is as it was then.
    """
    former = scratch.with_name(f"{scratch.name}-former")
    with stored_safely(directory):
        if name is None:
            scratch.mkdir(mode=0o700)
        else:
            fetch_files(store, job, name, scratch, lambda _: True)
            (scratch / MARKER).write_text(name, encoding="ascii")
        if directory.exists():
            directory.rename(former)
        scratch.rename(directory)
        shutil.rmtree(former, ignore_errors=True)


def goes_on_from(directory: Path) -> str | None:
    """The snapshot that a job's directory goes on from; None for none."""
    try:
        return (directory / MARKER).read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _names(name: str, listed: SnapshotList) -> set[str]:
    """A snapshot's pieces, its list among them."""
    return {name, *(piece for kept in listed.files.values() for piece in kept.pieces)}


def _one_moment(directory: Path) -> dict[Path, _Seen]:
    """The files as they were at one moment: they looked the same before it and after it.

    Raises:
        StorageError: there was none.
    """
    before = dict(_looked_at(directory))
    for _ in range(_LOOKS):
        after = dict(_looked_at(directory))
        if after == before:
            return after
        before = after
        time.sleep(_BETWEEN_LOOKS_SECONDS)
    raise StorageError("the job's files change all the time")


def _looked_at(directory: Path) -> Iterator[tuple[Path, _Seen]]:
    """A directory's files, those below it included; links are not followed, and not kept."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name in _LEFT_OUT or entry.name.endswith(_HALF_WRITTEN):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _looked_at(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                yield Path(entry.path), _Seen(found.st_ino, found.st_size, found.st_mtime_ns)


def _pieces(path: Path, look: _Seen) -> Iterator[bytes]:
    """What a file was when it was seen; it may have grown since.

    Raises:
        OSError: it cannot be read any more.
        EOFError: it is shorter now, or another file.
    """
    left = look.size
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        if os.fstat(file.fileno()).st_ino != look.inode:
            raise EOFError
        while left:
            piece = file.read(min(_PIECE_BYTES, left))
            if not piece:
                raise EOFError
            left -= len(piece)
            yield piece
