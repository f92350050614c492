"""Sending a large file in pieces: a connection that breaks costs what was on its way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from autosparse.client.http import Transport
from autosparse.client.records import UploadProgress
from autosparse.errors import ConflictError, ServiceError

LARGE_BYTES = 64 << 20
"""From this size on a file is sent in pieces."""
_PIECE = 32 << 20
_FRUITLESS_TRIES = 5
_LOOKS = 15  # a look takes minutes at most, and so do the waits between these
_READ = 1 << 20


def send_in_pieces(transport: Transport, kind: str, name: str, file: IO[bytes]) -> Any:
    """Send a file; the answer is what a single request with all of it would be answered with.

    Args:
        transport: the service.
        kind: `model` or `dataset`.
        name: for people.
        file: what is sent, from its beginning.

    Raises:
        ServiceError: the service cannot be reached for long.
        UserInputError: the service refuses the file.
    """
    size = file.seek(0, 2)
    asked = {"kind": kind, "name": name, "size_bytes": size}
    made = UploadProgress.model_validate(transport.json("POST", "/v1/uploads", json=asked))
    path, received, fruitless = f"/v1/uploads/{made.id}", 0, 0
    while received < size:
        try:
            answer = transport.piece(path, received, _part(file, received))
            received, fruitless = UploadProgress.model_validate(answer).received_bytes, 0
        except (ServiceError, ConflictError):
            # a piece may have arrived in part, or as a whole though its answer did not
            there = UploadProgress.model_validate(transport.json("GET", path)).received_bytes
            fruitless = 0 if there > received else fruitless + 1
            received = there
            if fruitless >= _FRUITLESS_TRIES:
                raise
            transport.wait(fruitless)
    return _finished(transport, f"{path}:finish")


def _finished(transport: Transport, path: str) -> Any:
    """The end may have been asked for before, and its answer lost: then it is looked into still."""
    for attempt in range(_LOOKS):
        try:
            return transport.json("POST", path)
        except ConflictError:
            transport.wait(attempt)
    return transport.json("POST", path)


def _part(file: IO[bytes], start: int) -> Iterator[bytes]:
    file.seek(start)
    left = _PIECE
    while left > 0 and (read := file.read(min(_READ, left))):
        left -= len(read)
        yield read
