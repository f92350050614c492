"""`Client.models`, `.datasets`, `.targets`, `.arriving`: what a service holds for a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from autosparse.client.http import Transport
from autosparse.client.records import DatasetInfo, ModelInfo, TargetInfo, UploadProgress
from autosparse.errors import ConfigError

Upload = TypeVar("Upload", ModelInfo, DatasetInfo, TargetInfo, UploadProgress)


class Uploads(Generic[Upload]):
    """The models, the datasets or the targets of one key, or what of them is arriving.

    Args:
        transport: the service.
        route: the last part of the path that lists them.
        prefix: what their ids begin with.
        record: how one is told.
    """

    def __init__(self, transport: Transport, route: str, prefix: str, record: type[Upload]) -> None:
        self._transport = transport
        self._route = f"/v1/{route}"
        self._prefix = prefix
        self._record: type[Upload] = record

    def list(self) -> Iterator[Upload]:
        """All of this key, newest first; what is there as a whole tells what needs it."""
        for answer in self._transport.pages(self._route):
            for item in answer["items"]:
                yield self._record.model_validate(item)

    def get(self, id_: str) -> Upload:
        """One of them.

        Raises:
            NotFoundError: there is none with this id, or it is another key's.
        """
        return self._record.model_validate(self._transport.json("GET", self._path(id_)))

    def delete(self, id_: str) -> None:
        """Remove one that no job and no schedule needs; its room is free then.

        Raises:
            NotFoundError: there is none with this id, or it is another key's.
            ConflictError: a job or a schedule needs it; the message says which.
        """
        self._transport.json("DELETE", self._path(id_))

    def _path(self, id_: str) -> str:
        if not id_.startswith(f"{self._prefix}_") or not id_.replace("_", "").isalnum():
            raise ConfigError(
                f"{id_!r} is no id of {self._route.removeprefix('/v1/')}",
                hint="`autosparse uploads list` prints them",
            )
        return f"{self._route}/{id_}"


def models_of(transport: Transport) -> Uploads[ModelInfo]:
    """The models that a service holds."""
    return Uploads(transport, "models", "mdl", ModelInfo)


def datasets_of(transport: Transport) -> Uploads[DatasetInfo]:
    """The datasets that a service holds."""
    return Uploads(transport, "datasets", "dat", DatasetInfo)


def targets_of(transport: Transport) -> Uploads[TargetInfo]:
    """The targets that a service holds."""
    return Uploads(transport, "targets", "tgt", TargetInfo)


def arriving_at(transport: Transport) -> Uploads[UploadProgress]:
    """The uploads in pieces that a service holds, not finished yet."""
    return Uploads(transport, "uploads", "upl", UploadProgress)
