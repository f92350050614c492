"""A delivered bundle as one zip file, made while it is sent: nothing is packed on the disk."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from api.artifacts import Artifact

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PIECE = 1 << 20
_FOLDER = "bundle"


def zipped(artifacts: Mapping[str, Artifact]) -> Iterator[bytes]:
    """The pieces of a zip file of these artifacts, below one folder; weights do not pack."""
    sent = _Sent()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:
        for name, artifact in sorted(artifacts.items()):
            member = zipfile.ZipInfo(f"{_FOLDER}/{name}")
            member.external_attr = 0o644 << 16
            with (
                artifact.path.open("rb") as source,
                archive.open(member, "w", force_zip64=True) as target,
            ):
                while piece := source.read(_PIECE):
                    target.write(piece)
                    yield sent.take()
            yield sent.take()
    yield sent.take()


class _Sent(io.RawIOBase):
    """A file that cannot be sought in: what is written waits until it is taken."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        self._waiting += data
        return memoryview(data).nbytes

    def take(self) -> bytes:
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken
