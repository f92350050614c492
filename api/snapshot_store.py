"""Pieces of jobs' snapshots below a URL. A piece is never changed: its name has its digest."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from api.remote_place import opened_place, reaching
from autosparse.errors import StorageError

_AT_ONCE = 8  # pieces on their way, all of them in memory


def piece_name(writer: str, content: bytes) -> str:
    """What a piece is called: only its writer ever removes it, so nobody takes another's away."""
    return f"{writer}-{hashlib.sha256(content).hexdigest()}"


def digest_in(name: str) -> str:
    """The digest of the piece with this name."""
    return name.rpartition("-")[2]


class SnapshotStore:
    """The pieces of every job's snapshots.

    Args:
        url: of the artifacts' store.

    Raises:
        ConfigError: no URL, or one whose library is not installed.
    """

    def __init__(self, url: str) -> None:
        self._fs, self._root = opened_place(f"{url.rstrip('/')}/snapshots")

    def write(self, job: str, pieces: Mapping[str, bytes]) -> None:
        """Store pieces under their names.

        Raises:
            StorageError: the store cannot be written to.
        """
        with self._reaching(job), ThreadPoolExecutor(_AT_ONCE) as pool:
            self._fs.makedirs(self._place(job), exist_ok=True)
            places = [self._place(job, name) for name in pieces]
            list(pool.map(self._fs.pipe_file, places, pieces.values()))

    def read(self, job: str, names: Sequence[str]) -> Iterator[bytes]:
        """Read pieces in the order of their names, each held against its digest.

        Raises:
            StorageError: the store cannot be read, or a piece is missing or damaged.
        """
        with self._reaching(job), ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                contents = pool.map(self._fs.cat_file, (self._place(job, name) for name in some))
                for name, content in zip(some, contents, strict=True):
                    if hashlib.sha256(content).hexdigest() != digest_in(name):
                        raise StorageError(f"a piece that is kept of the job {job} is damaged")
                    yield content

    def discard(self, job: str, names: Iterable[str]) -> None:
        """Remove pieces that no snapshot has any more.

        Raises:
            StorageError: the store cannot be written to.
        """
        with self._reaching(job):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # by an earlier try
                    self._fs.rm_file(self._place(job, name))

    def remove(self, job: str) -> None:
        """Remove everything that is kept of a job.

        Raises:
            StorageError: the store cannot be written to.
        """
        with self._reaching(job):
            if self._fs.exists(self._place(job)):
                self._fs.rm(self._place(job), recursive=True)

    def _place(self, job: str, *name: str) -> str:
        return "/".join((self._root, job, *name))

    def _reaching(self, job: str) -> AbstractContextManager[None]:
        return reaching(f"what is kept of the job {job}", job)
