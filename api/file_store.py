"""Files of the service, all below one directory. No name that a client gave is ever a path here."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from api.database import new_id
from api.settings import ServerSettings
from api.upload_store import UploadStore
from autosparse.errors import TooLargeError
from autosparse.journal import stored_safely

_STALE_SECONDS = 86400.0
_COPY_SECONDS = 7 * 86400.0  # longer than any job works
_READ_SECONDS = 60.0
_UPLOADS = ("blobs", "models")
MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Received:
    """An upload that is on the disk, not yet looked into."""

    path: Path
    sha256: str
    size_bytes: int


class FileStore:
    """Blobs by digest, unpacked models by digest, and a directory for each job.

    Args:
        root: a directory that nobody else writes to; it is made, readable for its owner only.
        uploads: where every server finds all uploads, of which this one has copies; None where
            all servers share the directory.
    """

    def __init__(self, root: Path, uploads: UploadStore | None = None) -> None:
        self.root = root.absolute()
        self._uploads = uploads
        with stored_safely(self.root):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for part in (*_UPLOADS, "jobs", "incoming", "archives", "views"):
            with stored_safely(self.root / part):
                (self.root / part).mkdir(exist_ok=True, mode=0o700)

    def blob(self, sha256: str) -> Path:
        """Where the bytes with this digest lie."""
        return self.root / "blobs" / sha256

    def model(self, sha256: str) -> Path:
        """Directory of the model that was uploaded with this digest."""
        return self.root / "models" / sha256

    def fetched_blob(self, sha256: str) -> Path:
        """The same, where it lies here now.

        Raises:
            StorageError: it has to be fetched first, and cannot be.
        """
        return self._fetched(self.blob(sha256), sha256)

    def fetched_model(self, sha256: str) -> Path:
        """The directory of a model, where it lies here now.

        Raises:
            StorageError: it has to be fetched first, and cannot be.
        """
        return self._fetched(self.model(sha256), sha256)

    def _fetched(self, place: Path, sha256: str) -> Path:
        if self._uploads is None:
            return place
        while True:
            if not place.exists():
                copy = self.incoming()
                self._uploads.fetch(sha256, copy)
                _put(copy, place)
            # one that was removed just now, to make room, is fetched again
            with contextlib.suppress(FileNotFoundError):
                os.utime(place)
                return place

    def send(self, sha256: str, received: Path) -> None:
        """Let all servers have an upload, where they share no directory.

        Raises:
            StorageError: the store cannot be written to.
        """
        if self._uploads is not None and not self._uploads.has(sha256):
            self._uploads.send(sha256, received)

    def job(self, id_: str) -> Path:
        """A job's directory."""
        return self.root / "jobs" / id_

    def jobs_before(self, changed: float) -> list[str]:
        """Jobs whose directories were changed last before a time."""
        return [path.name for path in (self.root / "jobs").iterdir() if _modified(path) < changed]

    def archive(self, key: str) -> Path | None:
        """All that a job delivered in one file, if somebody asked for that lately.

        The name ends with its digest.
        """
        found = next((self.root / "archives").glob(f"{key}-*.zip"), None)
        if found is not None:
            with contextlib.suppress(FileNotFoundError):
                os.utime(found)
        return found

    def keep_archive(self, made: Path, key: str, sha256: str) -> Path:
        """Put an archive in its place; where it is then."""
        place = self.root / "archives" / f"{key}-{sha256}.zip"
        with stored_safely(self.root):
            return made.replace(place)

    def trim_archives(self, most_bytes: int, last: Path) -> None:
        """Remove those archives that nobody asked for lately, until the others fit.

        Args:
            most_bytes: of all of them together.
            last: one that stays, whatever its size.
        """
        left = most_bytes - last.stat().st_size
        for path in sorted((self.root / "archives").iterdir(), key=_modified, reverse=True):
            # another server may have removed it just now
            with contextlib.suppress(FileNotFoundError):
                if path != last:
                    left -= path.stat().st_size
                    if left < 0:
                        path.unlink()

    def linked_by_jobs(self) -> dict[str, set[str]]:
        """Digests of the uploads that a job's directory leads to, for each job that has one."""
        found: dict[str, set[str]] = {}
        for link in (self.root / "jobs").glob("*/given/*"):
            # a job may be forgotten just now
            with contextlib.suppress(OSError):
                place = Path(os.readlink(link))
                if place.parent.name in _UPLOADS:
                    found.setdefault(link.parts[-3], set()).add(place.name)
        return found

    def trim_copies(self, most_bytes: int, needed: Collection[str]) -> None:
        """Remove those copies of uploads that nobody used lately, until the others fit.

        Args:
            most_bytes: of all of them together.
            needed: digests of those that stay, whatever they have.
        """
        copies = [path for part in _UPLOADS for path in (self.root / part).iterdir()]
        surplus = sum(map(_bytes_of, copies)) - most_bytes
        for copy in sorted(copies, key=_modified):
            if surplus <= 0:
                return
            if copy.name not in needed:
                surplus -= self._give_up(copy)

    def _give_up(self, copy: Path) -> int:
        """Remove a copy, unless somebody fetched it just now; how many bytes that gave."""
        size, lately = _bytes_of(copy), time.time() - _READ_SECONDS
        if _modified(copy) > lately:
            return 0
        away = self.incoming()
        with contextlib.suppress(FileNotFoundError):  # another server has removed it
            copy.rename(away)
        if _modified(away) > lately:  # fetched in between: it was there then, and is to be
            _put(away, copy)
            return 0
        remove(away)
        return size

    def pending(self, id_: str) -> Path:
        """Where an upload lies that arrives in pieces."""
        return self.root / "incoming" / id_

    def incoming(self) -> Path:
        """A new path for something that is being received or unpacked."""
        return self.root / "incoming" / new_id("in")

    async def receive(
        self, pieces: AsyncIterator[bytes], limit_bytes: int, arrived: Callable[[int], None]
    ) -> Received:
        """Write an upload to the disk as it comes.

        Args:
            pieces: of it.
            limit_bytes: the most that it may have.
            arrived: told the size of every piece; what it raises ends the upload.

        Raises:
            TooLargeError: it is longer than the limit; nothing of it is kept.
            StorageError: the disk is full.
        """
        path = self.incoming()
        with ExitStack() as undo:
            undo.callback(remove, path)
            received = await _written(pieces, path, limit_bytes, arrived)
            undo.pop_all()
        return received

    def keep_blob(self, received: Received) -> None:
        """Put received bytes in their place; equal bytes are stored once."""
        with stored_safely(self.root):
            received.path.replace(self.blob(received.sha256))

    def keep_model(self, unpacked: Path, sha256: str) -> None:
        """Put an unpacked model in its place; an equal one that is there already stays."""
        _put(unpacked, self.model(sha256))

    def forget(self, sha256: str) -> None:
        """Remove an upload that nobody has any more.

        Raises:
            StorageError: other servers may have it, and the store is away; it is still here then.
        """
        if self._uploads is not None:
            self._uploads.remove(sha256)
        self.blob(sha256).unlink(missing_ok=True)
        shutil.rmtree(self.model(sha256), ignore_errors=True)

    def view(self, job: str, snapshot: str) -> Path:
        """Where those files of a snapshot lie that are shown."""
        return self.root / "views" / f"{job}.{snapshot}"

    def keep_view(self, made: Path, place: Path) -> None:
        """Put them there, and remove those of earlier snapshots, unless somebody may read them."""
        for former in place.parent.glob(f"{place.name.partition('.')[0]}.*"):
            if former != place and _modified(former) < time.time() - _READ_SECONDS:
                shutil.rmtree(former, ignore_errors=True)
        _put(made, place)

    def forget_job(self, id_: str) -> None:
        """Remove everything of a job."""
        shutil.rmtree(self.job(id_), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what uploads left behind that broke off, and what can be made or fetched again."""
        copies = () if self._uploads is None else _UPLOADS
        parts = {
            **dict.fromkeys(("incoming", "archives", "views"), _STALE_SECONDS),
            **dict.fromkeys(copies, _COPY_SECONDS),
        }
        for part, seconds in parts.items():
            for path in (self.root / part).iterdir():
                # another server may have removed it just now
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - seconds:
                        remove(path)


def _put(made: Path, place: Path) -> None:
    """Put a directory or a file in its place; an equal one that is there already stays."""
    with stored_safely(place.parent):
        try:
            made.rename(place)
        except OSError:
            if not place.is_dir():
                raise
            shutil.rmtree(made)


def file_store(settings: ServerSettings) -> FileStore:
    """The files of a server, as it is set up."""
    uploads = UploadStore(settings.artifacts) if settings.own_home else None
    return FileStore(settings.home, uploads)


def _modified(path: Path) -> float:
    """When a file was asked for or written last; one that is gone, never."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes_of(path: Path) -> int:
    """Of a file, or of all files in a directory; of one that is gone, none."""
    sizes = 0
    for each in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            sizes += each.stat().st_size if each.is_file() else 0
    return sizes


async def _written(
    pieces: AsyncIterator[bytes], path: Path, limit_bytes: int, arrived: Callable[[int], None]
) -> Received:
    digest, size = hashlib.sha256(), 0
    with stored_safely(path), path.open("xb") as file:
        async for piece in pieces:
            size += len(piece)
            if size > limit_bytes:
                raise too_large("the upload", limit_bytes)
            arrived(len(piece))
            digest.update(piece)
            await to_thread.run_sync(file.write, piece)
    return Received(path, digest.hexdigest(), size)


def remove(path: Path) -> None:
    """Remove a file or a directory, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def too_large(what: str, limit_bytes: int) -> TooLargeError:
    """What is told whoever sends too much."""
    return TooLargeError(
        f"{what} is larger than {limit_bytes} bytes",
        hint="send less, or ask whoever runs the server to raise the limit",
    )
