"""What a job is given, laid out in its directory: links to uploads, under names of our own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import JsonValue
from sqlalchemy.orm import Session

from api.file_store import MODEL_FILE
from api.job_request import DATASET_FIELDS, MODEL_FIELD, TARGET_FIELD
from api.keys import Caller
from api.service import Service
from api.uploads import DATASET, MODEL, find_target, find_upload
from autosparse.errors import ConfigError
from autosparse.evaluation import Target
from autosparse.journal import stored_safely

FILE_FIELDS = (MODEL_FIELD, *DATASET_FIELDS, TARGET_FIELD)
"""Fields of a request that are ids of uploads and targets."""
_GIVEN = Path("given")


def lay_out(
    service: Service,
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
    """
    given = service.files.job(id_) / _GIVEN
    paths: dict[str, str] = {}
    needed: set[str] = set()
    with stored_safely(given), service.database.reading() as session:
        given.mkdir(parents=True, mode=0o700, exist_ok=True)
        for field in names:
            upload = fields.get(field)
            if upload is None:
                continue
            if not isinstance(upload, str):
                raise ConfigError(f"{field}: give the id of an upload")
            paths[field] = str(_GIVEN / _place(service, session, caller, field, upload, given))
            needed.add(upload)
    return paths, frozenset(needed)


def link_job(service: Service, id_: str, other: str) -> str:
    """Put a link to what another job did into a job's directory; its path from there on."""
    place = _GIVEN / other
    with stored_safely(service.files.job(id_)):
        _link(service.files.job(other) / "out", service.files.job(id_) / place)
    return str(place)


def _place(
    service: Service, session: Session, caller: Caller, field: str, id_: str, given: Path
) -> Path:
    """Put one upload there; its path below `given`."""
    if field == TARGET_FIELD:
        target = Target.model_validate(find_target(session, caller, id_).document)
        (given / "target.yaml").write_text(target.to_yaml(), encoding="utf-8")
        return Path("target.yaml")
    if field == MODEL_FIELD:
        row = find_upload(session, caller, MODEL, id_)
        _link(service.files.model(row.sha256), given / "model")
        return Path("model") / str(row.found.get("entry", MODEL_FILE))
    row = find_upload(session, caller, DATASET, id_)
    _link(service.files.blob(row.sha256), given / f"{field}.npz")
    return Path(f"{field}.npz")


def _link(source: Path, place: Path) -> None:
    place.symlink_to(os.path.relpath(source, place.parent))
