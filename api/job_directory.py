"""What a job is given, laid out in its directory: links to uploads, under names of our own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue
from sqlalchemy.orm import Session

from api.database import Database
from api.file_store import MODEL_FILE, FileStore
from api.job_request import DATASET_FIELDS, MODEL_FIELD, TARGET_FIELD
from api.keys import Caller
from api.tables import TargetRow, UploadRow
from api.uploads import DATASET, MODEL, find_target, find_upload
from autosparse.errors import ConfigError
from autosparse.evaluation import Target
from autosparse.journal import stored_safely

FILE_FIELDS = (MODEL_FIELD, *DATASET_FIELDS, TARGET_FIELD)
"""Fields of a request that are ids of uploads and targets."""
_GIVEN = Path("given")


class HasPlaces(Protocol):
    """A server or a runner: where the files are, and what is known of them."""

    @property
    def files(self) -> FileStore:
        """Where the files are."""

    @property
    def database(self) -> Database:
        """What is known of them."""


@dataclass(frozen=True)
class Places:
    """A runner's."""

    files: FileStore
    database: Database


def lay_out(
    service: HasPlaces,
    caller: Caller,
    fields: Mapping[str, JsonValue],
    id_: str,
    names: Iterable[str] = FILE_FIELDS,
) -> tuple[dict[str, str], frozenset[str]]:
    """Put links to the uploads that a request names into the job's directory.

    Args:
        service: where the files are.
        caller: whose uploads may be meant.
        fields: the request.
        id_: the job's.
        names: fields of the request that may be ids.

    Returns:
        Field -> path from the job's directory on; and the ids.

    Raises:
        NotFoundError: an upload that the caller does not have.
        ConfigError: a value that is no id.
        StorageError: an upload has to be fetched from the artifacts' store, and cannot be.
    """
    found = _found(service, caller, {name: fields.get(name) for name in names})
    given = service.files.job(id_) / _GIVEN
    with stored_safely(given):
        given.mkdir(parents=True, mode=0o700, exist_ok=True)
        places = {field: _place(service.files, field, row, given) for field, row in found.items()}
    paths = {field: str(_GIVEN / place) for field, place in places.items()}
    return paths, frozenset(row.id for row in found.values())


def link_job(service: HasPlaces, id_: str, other: str) -> str:
    """Put a link to what another job did into a job's directory; its path from there on."""
    place = _GIVEN / other
    with stored_safely(service.files.job(id_)):
        _link(service.files.job(other) / "out", service.files.job(id_) / place)
    return str(place)


def _found(
    service: HasPlaces, caller: Caller, named: Mapping[str, JsonValue]
) -> dict[str, UploadRow | TargetRow]:
    """What the fields of a request name; those without a value name nothing."""
    found: dict[str, UploadRow | TargetRow] = {}
    with service.database.reading() as session:
        for field, id_ in named.items():
            if id_ is None:
                continue
            if not isinstance(id_, str):
                raise ConfigError(f"{field}: give the id of an upload")
            found[field] = _row(session, caller, field, id_)
    return found


def _row(session: Session, caller: Caller, field: str, id_: str) -> UploadRow | TargetRow:
    if field == TARGET_FIELD:
        return find_target(session, caller, id_)
    return find_upload(session, caller, MODEL if field == MODEL_FIELD else DATASET, id_)


def _place(files: FileStore, field: str, row: UploadRow | TargetRow, given: Path) -> Path:
    """Put one of them there; its path below `given`."""
    if isinstance(row, TargetRow):
        text = Target.model_validate(row.document).to_yaml()
        (given / "target.yaml").write_text(text, encoding="utf-8")
        return Path("target.yaml")
    if field == MODEL_FIELD:
        _link(files.fetched_model(row.sha256), given / "model")
        return Path("model") / str(row.found.get("entry", MODEL_FILE))
    _link(files.fetched_blob(row.sha256), given / f"{field}.npz")
    return Path(f"{field}.npz")


def _link(source: Path, place: Path) -> None:
    place.symlink_to(os.path.relpath(source, place.parent))
