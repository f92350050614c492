"""What a job delivered, wherever it is kept: listed, and read from anywhere on."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from api.artifacts import artifacts_of
from api.service import Service
from autosparse.artifacts.bundle import file_sha256
from autosparse.journal import stored_safely

_FOLDER = "bundle"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # what a zip file can say at least


@dataclass(frozen=True)
class Deliverable:
    """A delivered file."""

    size_bytes: int
    sha256: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    """For reading from anywhere on."""


def deliverables(service: Service, job: str) -> dict[str, Deliverable]:
    """What a job delivered, by name: a closed list, so that no other name leads anywhere.

    Raises:
        StorageError: the artifacts' store cannot be read.
    """
    if service.artifacts is not None:
        return {
            name: Deliverable(
                one.size_bytes, one.sha256, partial(service.artifacts.open, job, name, one.sha256)
            )
            for name, one in service.artifacts.list(job).items()
        }
    found = artifacts_of(service.files.job(job))
    return {name: _file(item.path, item.sha256) for name, item in found.items()}


def archive(service: Service, job: str, files: Mapping[str, Deliverable]) -> Deliverable:
    """All of it as one zip file: made when it is first asked for, and the same every time.

    It unpacks into one folder. Nothing in it is compressed, since weights hardly are; so it takes
    no longer than a copy.

    Raises:
        StorageError: the disk is full, or the artifacts' store cannot be read.
    """
    digests = "".join(f"{name}:{one.sha256}\n" for name, one in sorted(files.items()))
    key = hashlib.sha256(f"{job}\n{digests}".encode()).hexdigest()
    place = service.files.archive(key) or _packed(service, files, key)
    return _file(place, place.stem.rpartition("-")[2])


def _packed(service: Service, files: Mapping[str, Deliverable], key: str) -> Path:
    made = service.files.incoming()
    with stored_safely(made), zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as packed:
        for name, one in sorted(files.items()):
            info = zipfile.ZipInfo(f"{_FOLDER}/{name}", _EARLIEST)
            with one.open() as source, packed.open(info, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)
    place = service.files.keep_archive(made, key, file_sha256(made))
    service.files.trim_archives(service.settings.max_archive_bytes, place)
    return place


def _file(path: Path, sha256: str) -> Deliverable:
    def opened() -> IO[bytes]:
        return path.open("rb")

    return Deliverable(path.stat().st_size, sha256, opened)
