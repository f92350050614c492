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
from api.job_request import TARGET_FIELD, asked_seconds, check_names, device_of, read_job
from api.joined_target import aim_again, aim_of
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
from autosparse.pipeline.resolve_config import ResolveConfig, read_resolve_config

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
    laid, needed = lay_out(service, caller, fields, id_)
    aim = aim_of(service, caller, fields, laid)
    stored = job_config(fields, aim.fields, service.settings.max_time_limit)
    _inspect(service, id_, "job", stored, aim.there)
    return Prepared(dict(fields), stored, needed)


def _inspect(
    service: Service,
    id_: str,
    kind: str,
    config: dict[str, Any],
    there: dict[str, Any] | None,
    **more: JsonValue,
) -> None:
    """Have the intake of a job look at what it was given, in its directory.

    Raises:
        UserInputError: what it has against it.
    """
    scratch = service.files.incoming()
    try:
        service.inspector.inspect(
            kind, directory=str(service.files.job(id_)), scratch=str(scratch), config=config,
            environment=there, **more,
        )  # fmt: skip
    finally:
        remove(scratch)


def job_config(fields: Fields, paths: Mapping[str, Any], max_time_limit: float) -> dict[str, Any]:
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
    laid, needed = lay_out(service, caller, source.request, id_)
    laid.pop("train", None)  # nothing is trained again
    aim = aim_again(service, caller, fields, source)
    if aim is not None:
        _check_measured_there(source, fields)
        laid.pop(TARGET_FIELD, None)  # its configuration has the device's address
    wishes = {k: v for k, v in fields.items() if k in RESOLVE_FIELDS}
    link = link_job(service, id_, job)
    config = read_resolve_config({**wishes, **laid, "source": link, "output_dir": "out"})
    if config.time_limit > service.settings.max_time_limit:
        raise ConfigError(
            f"time_limit: this server allows up to {service.settings.max_time_limit:.0f} seconds"
        )
    stored = config.model_dump(mode="json", exclude_unset=True)
    before = {} if source.manifest is None else source.manifest["config"]
    there = None if aim is None else aim.there
    _inspect(service, id_, "resolve", stored, there, before=before)
    return Prepared(_with_uploads(source, fields), stored, needed | {job}, source.ran_on)


def _reverify(service: Service, caller: Caller, fields: Fields, id_: str) -> Prepared:
    asked = read_reverify(fields)
    source = _delivered(service, caller, asked.job, "delivered no bundle to measure again")
    paths, needed = lay_out(service, caller, source.request, id_)
    aim = aim_again(service, caller, fields, source)
    config = {
        "bundle": f"{link_job(service, id_, asked.job)}/bundle", "model": paths["model"],
        "validation": paths["validation"], "tolerance": asked.tolerance,
        "target": None if aim is None else aim.fields[TARGET_FIELD],
    }  # fmt: skip
    request = _with_uploads(source, fields)
    return Prepared(request, config, needed | {asked.job}, source.ran_on)


def _atlas(service: Service, caller: Caller, fields: Fields, id_: str) -> Prepared:
    check_fields(fields, ATLAS_FIELDS)
    laid, needed = lay_out(service, caller, fields, id_)
    aim = aim_of(service, caller, fields, laid)
    wishes = {k: v for k, v in fields.items() if k in ATLAS_FIELDS and v is not None}
    config = read_profile_config(
        {**wishes, **aim.fields, "atlas": True, "fresh": True, "output_dir": "out"}
    )
    stored = config.model_dump(mode="json", exclude_unset=True)
    _inspect(service, id_, "atlas", stored, aim.there)
    return Prepared(dict(fields), stored, needed)


def _check_measured_there(source: JobRow, fields: Fields) -> None:
    if device_of(fields) not in (None, source.ran_on):
        raise ConfigError(
            f"device: what the job measured on {source.ran_on} says nothing of another device",
            hint="submit a job for that one",
        )


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
