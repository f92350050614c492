"""What a job can be: a search, an answer for another budget, a bundle measured again, an atlas.

Each kind has a function that checks what was asked, lays out the job's directory, and says what
the job's process is given. `job_work.py` has the other half, which runs in that process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from api.file_store import remove
from api.job_directory import FILE_FIELDS, lay_out, link_job
from api.job_request import asked_seconds, check_names, read_job
from api.keys import Caller
from api.kind_requests import (
    ATLAS_FIELDS,
    RESOLVE_FIELDS,
    check_fields,
    job_named,
    read_reverify,
)
from api.ownership import owned_row
from api.service import Service
from api.tables import JobRow
from autosparse.errors import ConfigError, ConflictError
from autosparse.pipeline.config import JobConfig, read_profile_config
from autosparse.pipeline.resolve import ResolveConfig, read_resolve_config

SEARCH, RESOLVE, REVERIFY, ATLAS = "search", "resolve", "reverify", "refresh_atlas"
_REVERIFY_SECONDS, _ATLAS_SECONDS = 900.0, 3600.0
Fields = Mapping[str, JsonValue]


@dataclass(frozen=True)
class Prepared:
    """A job whose directory is laid out."""

    request: dict[str, Any]
    """What was asked; with the uploads of the job that it is about."""
    config: dict[str, Any]
    """What its process is given."""
    needed: frozenset[str]
    """Ids of uploads, targets and jobs that have to stay."""
    device: str | None = None
    """Where it has to run, unless it is asked for elsewhere: what was measured holds there."""


def _search(service: Service, caller: Caller, fields: Fields, id_: str) -> Prepared:
    """The intake of the job itself has nothing against it."""
    check_names(fields)
    paths, needed = lay_out(service, caller, fields, id_)
    stored = job_config(fields, paths, service.settings.max_time_limit)
    scratch = service.files.incoming()
    try:
        service.inspector.inspect(
            "job", directory=str(service.files.job(id_)), scratch=str(scratch), config=stored
        )
    finally:
        remove(scratch)
    return Prepared(dict(fields), stored, needed)


def job_config(fields: Fields, paths: Mapping[str, str], max_time_limit: float) -> dict[str, Any]:
    """The configuration of a search, as it is stored.

    Only what was given: a target file contradicts no default.

    Raises:
        ConfigError: a field is missing or wrong.
    """
    config = read_job(fields, paths, max_time_limit)
    return config.model_dump(mode="json", exclude_unset=True)


def _resolve(service: Service, caller: Caller, fields: Fields, id_: str) -> Prepared:
    check_fields(fields, (*RESOLVE_FIELDS, "job"))
    job = job_named(fields)
    source = _delivered(service, caller, job, "has no level table to answer from")
    paths, needed = lay_out(service, caller, source.request, id_)
    paths.pop("train", None)  # nothing is trained again
    wishes = {k: v for k, v in fields.items() if k in RESOLVE_FIELDS}
    link = link_job(service, id_, job)
    config = read_resolve_config({**wishes, **paths, "source": link, "output_dir": "out"})
    if config.time_limit > service.settings.max_time_limit:
        raise ConfigError(
            f"time_limit: this server allows up to {service.settings.max_time_limit:.0f} seconds"
        )
    stored = config.model_dump(mode="json", exclude_unset=True)
    return Prepared(_with_uploads(source, fields), stored, needed | {job}, source.ran_on)


def _reverify(service: Service, caller: Caller, fields: Fields, id_: str) -> Prepared:
    asked = read_reverify(fields)
    source = _delivered(service, caller, asked.job, "delivered no bundle to measure again")
    paths, needed = lay_out(service, caller, source.request, id_)
    config = {
        "bundle": f"{link_job(service, id_, asked.job)}/bundle", "model": paths["model"],
        "validation": paths["validation"], "tolerance": asked.tolerance,
    }  # fmt: skip
    request = _with_uploads(source, fields)
    return Prepared(request, config, needed | {asked.job}, source.ran_on)


def _atlas(service: Service, caller: Caller, fields: Fields, id_: str) -> Prepared:
    check_fields(fields, ATLAS_FIELDS)
    paths, needed = lay_out(service, caller, fields, id_)
    wishes = {k: v for k, v in fields.items() if k in ATLAS_FIELDS and v is not None}
    config = read_profile_config(
        {**wishes, **paths, "atlas": True, "fresh": True, "output_dir": "out"}
    )
    stored = config.model_dump(mode="json", exclude_unset=True)
    return Prepared(dict(fields), stored, needed)


def _with_uploads(source: JobRow, fields: Fields) -> dict[str, Any]:
    return {**{k: v for k, v in source.request.items() if k in FILE_FIELDS}, **fields}


def _delivered(service: Service, caller: Caller, id_: str, lack: str) -> JobRow:
    """An ended search of the caller's that delivered a bundle.

    Raises:
        NotFoundError: there is no such job.
        ConflictError: it delivered nothing, or has not ended.
    """
    with service.database.reading() as session:
        row = owned_row(session, JobRow, caller, id_, "job")
    if row.manifest is None or row.state != "finished":
        raise ConflictError(f"the job {id_} {lack}", hint="wait until it has finished")
    return row


PREPARERS: Mapping[str, Callable[[Service, Caller, Fields, str], Prepared]] = {
    SEARCH: _search, RESOLVE: _resolve, REVERIFY: _reverify, ATLAS: _atlas,
}  # fmt: skip


def seconds_of(kind: str, config: Mapping[str, Any]) -> float:
    """Time that a job asks for; a process that takes far longer hangs."""
    if kind == SEARCH:
        return asked_seconds(JobConfig.model_validate(config))
    if kind == RESOLVE:
        return ResolveConfig.model_validate(config).time_limit
    return _REVERIFY_SECONDS if kind == REVERIFY else _ATLAS_SECONDS
