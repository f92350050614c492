"""Where delivered files are kept for clients: the job's directory, or any place fsspec can name.

With a URL (`s3://BUCKET/PREFIX`, `gs://...`, `file:///...`), what a job delivered is copied there
when it ends, and served from there: servers need not share a disk to hand it out. A list of the
files, with sizes and digests, is written last, so that a delivery is there whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO

from fsspec.core import url_to_fs

from api.artifacts import Artifact
from autosparse.errors import ConfigError, StorageError

_LIST = "delivered.json"


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

    Raises:
        ConfigError: no URL, or one whose library is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, self._root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(
                f"the artifacts' URL cannot be used: {error}",
                hint="give file:///DIRECTORY, or s3://BUCKET/PREFIX with s3fs installed",
            ) from error

    def put(self, job: str, files: Mapping[str, Artifact]) -> None:
        """Copy what a job delivered, in the place of what it delivered before.

        Raises:
            StorageError: the store cannot be written to.
        """
        listed = {
            name: asdict(Stored(file.path.stat().st_size, file.sha256))
            for name, file in files.items()
        }
        with self._stored(job):
            self.remove(job)
            for name, file in files.items():
                place = self._place(job, name)
                self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._fs.put_file(str(file.path), place)
            self._fs.makedirs(self._place(job), exist_ok=True)
            self._fs.pipe_file(self._place(job, _LIST), json.dumps(listed).encode())

    def list(self, job: str) -> dict[str, Stored]:
        """What a job delivered; empty where it delivered nothing yet.

        Raises:
            StorageError: the store cannot be read.
        """
        with self._stored(job):
            try:
                content = self._fs.cat_file(self._place(job, _LIST))
            except FileNotFoundError:
                return {}
        return {name: Stored(**one) for name, one in json.loads(content).items()}

    @contextmanager
    def open(self, job: str, name: str) -> Iterator[IO[bytes]]:
        """A delivered file that is listed, to be read from anywhere on.

        Raises:
            StorageError: the store cannot be read.
        """
        with self._stored(job), self._fs.open(self._place(job, name), "rb") as file:
            yield file

    def remove(self, job: str) -> None:
        """Forget what a job delivered.

        Raises:
            StorageError: the store cannot be written to.
        """
        with self._stored(job):
            if self._fs.exists(self._place(job)):
                self._fs.rm(self._place(job), recursive=True)

    def _place(self, job: str, *name: str) -> str:
        return "/".join((self._root.rstrip("/"), job, *name))

    @contextmanager
    def _stored(self, job: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"what the job {job} delivered cannot be reached: {error}",
                hint="see that the artifacts' store runs, and that the server may write there",
            ) from error


def artifact_store(url: str) -> ArtifactStore | None:
    """The store that a server's settings name; None for the jobs' own directories."""
    return ArtifactStore(url) if url else None
