"""The agent's scratch folder: files by their digest, and nothing outside it is ever written."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from autosparse.errors import RequestError, StorageError, TooLargeError
from autosparse.journal import full_disk, is_full, stored_safely
from workers.agent_messages import FileOffered


class FileStore:
    """Files that were sent once are not sent again, as long as there is room for them.

    Args:
        directory: the agent's alone; whatever is in it goes.
        largest_bytes: of all files together. A parcel that is larger is refused, and for others
            what was used longest ago goes first.
    """

    def __init__(self, directory: Path, largest_bytes: int) -> None:
        self._files = directory / "files"
        self._largest = largest_bytes
        self._sizes: dict[str, int] = {}
        """Digest -> bytes, the most recently used last."""
        with stored_safely(directory):
            for path in directory.iterdir():
                if path.name != "lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._files.mkdir()
        self._requests = directory

    def missing(self, offered: Mapping[str, FileOffered]) -> tuple[FileOffered, ...]:
        """What must be sent, each content once; room is made for it.

        Raises:
            TooLargeError: the files are more than the store may hold.
        """
        wanted = {file.sha256: file for file in offered.values()}
        if sum(file.size for file in wanted.values()) > self._largest:
            raise TooLargeError(
                f"the files of the request are larger than the {self._largest >> 20} MiB that the "
                "agent may keep",
                hint="start the agent with a larger --scratch-limit",
            )
        lacking = tuple(f for digest, f in wanted.items() if digest not in self._sizes)
        self._make_room(sum(file.size for file in lacking), keep=wanted.keys())
        return lacking

    def receive(self, file: FileOffered, chunks: Iterable[bytes]) -> None:
        """Store one file.

        Raises:
            RequestError: what came is not what was announced.
            StorageError: the disk is full.
        """
        partial = self._files / f"{file.sha256}.partial"
        digest, received = hashlib.sha256(), 0
        try:
            with partial.open("wb") as target:
                for chunk in chunks:
                    digest.update(chunk)
                    received += len(chunk)
                    target.write(chunk)
            if (received, digest.hexdigest()) != (file.size, file.sha256):
                raise RequestError("a file arrived that is not the one that was announced")
            partial.replace(self._files / file.sha256)
        except OSError as error:
            if is_full(error):
                raise full_disk(self._files) from error
            raise
        finally:
            partial.unlink(missing_ok=True)
        self._sizes[file.sha256] = file.size

    @contextmanager
    def laid_out(self, offered: Mapping[str, FileOffered]) -> Iterator[Path]:
        """A directory with the files under their names, which were checked; gone afterwards.

        Raises:
            StorageError: the disk is full.
        """
        with stored_safely(self._requests):
            scratch = tempfile.TemporaryDirectory(dir=self._requests, prefix="request-")
        with scratch as name:
            for path, file in offered.items():
                self._sizes[file.sha256] = self._sizes.pop(file.sha256)
                place = Path(name) / path
                with stored_safely(place):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    _link(self._files / file.sha256, place)
            yield Path(name)

    def _make_room(self, size: int, keep: Iterable[str]) -> None:
        needed = set(keep)
        for digest in [d for d in self._sizes if d not in needed]:
            if sum(self._sizes.values()) + size <= self._largest:
                return
            (self._files / digest).unlink()
            del self._sizes[digest]


def own_directory(path: Path) -> Path:
    """Make a directory that only this user can look into.

    Raises:
        StorageError: something of another user's, or no directory, has that name.
    """
    with stored_safely(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StorageError(
            f"{path} is not this user's alone", hint="name another directory with --scratch"
        )
    return path


def _link(stored: Path, path: Path) -> None:
    """Without a copy where the file system can; what runs it cannot write to it by accident."""
    stored.chmod(0o500)  # a library must be executable on some systems
    try:
        os.link(stored, path)
    except OSError:
        shutil.copyfile(stored, path)
