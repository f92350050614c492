"""Where delivered files are kept for clients: the job's directory, or any place fsspec can name.

With a URL (`s3://BUCKET/PREFIX`, `gs://...`, `file:///...`), what a job delivered is copied there
when it ends, and served from there: servers need not share a disk to hand it out. A file lies under
its digest, and a list of the files, with sizes and digests, is written last: so a delivery is there
whole or not at all, and the one before it is served until then.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO

from api.artifacts import Artifact
from api.remote_place import opened_place, reaching
from autosparse.errors import StorageError
from autosparse.journal import stored_safely

_LIST = "delivered.json"
_PIECE_BYTES, _AHEAD_BYTES = 1 << 20, 4 << 20


@dataclass(frozen=True)
class Stored:
    """A delivered file as it is listed."""

    size_bytes: int
    sha256: str


class ArtifactStore:
    """Delivered files of every job below one URL.

    Args:
        url: of a directory, as fsspec spells it. Credentials come from where its library takes
            them: the environment, or files of the user's.
        told_as: what is kept under one id, for people.

    Raises:
        ConfigError: no URL, or one whose library is not installed.
    """

    def __init__(self, url: str, told_as: str = "what the job {} delivered") -> None:
        self._fs, self._root = opened_place(url)
        self._told_as = told_as

    def put(self, job: str, files: Mapping[str, Artifact]) -> None:
        """Copy what a job delivered, in the place of what it delivered before.

        Raises:
            StorageError: the store cannot be written to; what was delivered before is still there.
        """
        listed = {
            name: Stored(file.path.stat().st_size, file.sha256) for name, file in files.items()
        }
        with self._reaching(job):
            for name, file in files.items():
                place = self._place(job, file.sha256, name)
                self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._fs.put_file(str(file.path), place)
            self._fs.makedirs(self._place(job), exist_ok=True)
            content = json.dumps({name: asdict(one) for name, one in listed.items()}).encode()
            self._fs.pipe_file(self._place(job, _LIST), content)
            self._remove_all_but(job, listed)

    def list(self, job: str) -> dict[str, Stored]:
        """What a job delivered; empty where it delivered nothing yet.

        Raises:
            StorageError: the store cannot be read.
        """
        with self._reaching(job):
            try:
                content = self._fs.cat_file(self._place(job, _LIST))
            except FileNotFoundError:
                return {}
        return {name: Stored(**one) for name, one in json.loads(content).items()}

    @contextmanager
    def open(self, job: str, name: str, sha256: str) -> Iterator[IO[bytes]]:
        """A delivered file that is listed, to be read from anywhere on.

        Raises:
            StorageError: the store cannot be read, now or later on.
        """
        with self._reaching(job):
            # by itself, the library of S3 fetches 50 MB for whoever reads a few bytes
            file = self._fs.open(self._place(job, sha256, name), "rb", block_size=_AHEAD_BYTES)
        remote = _Remote(file, partial(self._reaching, job))
        with io.BufferedReader(remote, _PIECE_BYTES) as reading:
            yield reading

    def fetch(self, job: str, name: str, sha256: str, place: Path) -> None:
        """Put a copy of a delivered file that is listed on the disk, held against its digest.

        Raises:
            StorageError: the store cannot be read, the file is not what was stored, or the disk is
                full.
        """
        digest = hashlib.sha256()
        with (
            self.open(job, name, sha256) as source,
            stored_safely(place),
            place.open("wb") as target,
        ):
            while piece := source.read(_PIECE_BYTES):
                digest.update(piece)
                target.write(piece)
        if digest.hexdigest() != sha256:
            raise StorageError(f"{self._told_as.format(job)} is damaged: {name}")

    def remove(self, job: str) -> None:
        """Forget what a job delivered.

        Raises:
            StorageError: the store cannot be written to.
        """
        with self._reaching(job):
            if self._fs.exists(self._place(job)):
                self._fs.rm(self._place(job), recursive=True)

    def _remove_all_but(self, job: str, listed: Mapping[str, Stored]) -> None:
        kept = {_LIST, *(f"{one.sha256}/{name}" for name, one in listed.items())}
        for path in self._fs.find(self._place(job)):
            if path.rpartition(f"/{job}/")[2] not in kept:
                self._fs.rm_file(path)

    def _place(self, job: str, *name: str) -> str:
        return "/".join((self._root, job, *name))

    def _reaching(self, job: str) -> AbstractContextManager[None]:
        return reaching(self._told_as.format(job), job)


class _Remote(io.RawIOBase):
    """A file of a store: each time it is read, the store may be away."""

    def __init__(
        self, file: IO[bytes], reaching: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._file = file
        self._reaching = reaching

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._reaching():
            return self._file.seek(offset, whence)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        with self._reaching():
            read = self._file.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)

    def close(self) -> None:
        self._file.close()
        super().close()


def artifact_store(url: str) -> ArtifactStore | None:
    """The store that a server's settings name; None for the jobs' own directories."""
    return ArtifactStore(url) if url else None
