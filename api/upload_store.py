"""Uploads in the artifacts' store: servers that share no home fetch what they need from there."""

from __future__ import annotations

from pathlib import Path

from api.artifact_store import ArtifactStore
from api.artifacts import Artifact
from autosparse.artifacts.bundle import file_sha256
from autosparse.errors import StorageError
from autosparse.journal import stored_safely

_WHOLE = "upload"


class UploadStore:
    """Blobs and unpacked models by the digest of what was uploaded.

    Args:
        url: of the artifacts' store.

    Raises:
        ConfigError: no URL, or one whose library is not installed.
    """

    def __init__(self, url: str) -> None:
        self._store = ArtifactStore(f"{url.rstrip('/')}/uploads", "the upload {}")

    def send(self, sha256: str, source: Path) -> None:
        """Store a blob, or the files of an unpacked model.

        Raises:
            StorageError: the store cannot be written to.
        """
        paths = sorted(source.rglob("*")) if source.is_dir() else [source]
        files = {
            _WHOLE if path == source else path.relative_to(source).as_posix(): path
            for path in paths
            if path.is_file()
        }
        self._store.put(
            _id(sha256), {name: Artifact(path, file_sha256(path)) for name, path in files.items()}
        )

    def has(self, sha256: str) -> bool:
        """Whether an upload is there, whole.

        Raises:
            StorageError: the store cannot be read.
        """
        return bool(self._store.list(_id(sha256)))

    def fetch(self, sha256: str, into: Path) -> None:
        """Put a blob into a file, or an unpacked model into a directory; neither is there yet.

        Raises:
            StorageError: the store cannot be read, or the disk is full.
        """
        listed = self._store.list(_id(sha256))
        if not listed:
            raise StorageError(
                f"the upload {sha256} is not in the artifacts' store",
                hint="give all servers of a database --own-home from the start, or none of them",
            )
        for name, one in listed.items():
            place = into if name == _WHOLE else into / name
            with stored_safely(place):
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store.fetch(_id(sha256), name, one.sha256, place)

    def remove(self, sha256: str) -> None:
        """Forget an upload.

        Raises:
            StorageError: the store cannot be written to.
        """
        self._store.remove(_id(sha256))


def _id(sha256: str) -> str:
    # a blob's own digest is the name of a folder below
    return f"upload-{sha256}"
