"""What may be asked of a job over HTTP: the fields of `JobConfig`, with ids in place of files.

There is no second configuration: fields, help and checks are those of `JobConfig`. A field that
names a file is an upload's id, one that names a plug-in must be a shipped name, and what only the
server may decide is refused.
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from pydantic import GetJsonSchemaHandler, JsonValue, RootModel
from pydantic_core import CoreSchema

from autosparse.client.records import MAY_CHANGE
from autosparse.errors import ConfigError
from autosparse.evaluation.metrics import BUILT_IN
from autosparse.pipeline.config import JobConfig, read_config
from autosparse.recovery import RECOVERIES
from autosparse.search.strategies import STRATEGIES
from backends import BACKENDS
from search_spaces import names as space_names

MODEL_FIELD, TARGET_FIELD = "model", "target"
DATASET_FIELDS = tuple(
    name
    for name in ("calibration", "train", "validation", "test")
    if name in JobConfig.model_fields
)
OF_A_TARGET = ("backend", "threads", "batch_size", "input_shape")
"""What a target decides, in a configuration that names none by a file."""
# How many processes work at a job is a matter of the machine, not of the job.
_SERVERS_OWN = frozenset({"schema_version", "workers"})
_OF_A_TARGET = "Id of a target. The device to run on; without it, this server as it is."
_MOST_PRIORITY = 1000
_LONGEST_NAME = 200
OWN_FIELDS: Mapping[str, dict[str, JsonValue]] = {
    "name": {
        "type": "string", "maxLength": _LONGEST_NAME, "description": "Name of the job, for people.",
    },
    "priority": {
        "type": "integer", "minimum": -_MOST_PRIORITY, "maximum": _MOST_PRIORITY,
        "description": "Higher ones are begun first.",
    },
    "device": {
        "type": "string", "maxLength": _LONGEST_NAME,
        "description": "Device to run on, by the name that GET /v1/devices tells. Without it: "
        "any; what is about an earlier job, where that one ran.",
    },
}  # fmt: skip
"""Fields of every kind of job that its work does not see, and their schema."""


def _chosen_names() -> Mapping[str, tuple[str, ...]]:
    return {
        "metric": tuple(BUILT_IN), "space": space_names(), "strategy": STRATEGIES.names(),
        "backend": BACKENDS.names(), "recover": RECOVERIES.names(),
    }  # fmt: skip


def accepted_fields() -> tuple[str, ...]:
    """Fields of `JobConfig` that a client may give.

    A field of text or of a path that is not known here is the server's own business: it could
    name a file or a module.
    """
    known = {MODEL_FIELD, TARGET_FIELD, *DATASET_FIELDS, *_chosen_names()}
    return tuple(
        name
        for name, field in JobConfig.model_fields.items()
        if name in known or not _kinds(field.annotation) & {Path, str, typing.Any}
        if name not in _SERVERS_OWN
    )


def _kinds(annotation: Any) -> set[Any]:
    """The classes that a value may be of, unions taken apart."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return set().union(*(_kinds(part) for part in typing.get_args(annotation)))
    return {annotation}


class JobRequest(RootModel[dict[str, JsonValue]]):
    """Fields of a job; see the configuration's documentation."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return job_schema()


class ResumeRequest(RootModel[dict[str, JsonValue]]):
    """What a job is asked anew when it goes on."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        every = job_schema()["properties"]
        return {
            "type": "object", "additionalProperties": False,
            "properties": {name: every[name] for name in MAY_CHANGE},
            "examples": [{"latency_budget": "40%", "time_limit": "10m"}],
        }  # fmt: skip


def job_schema() -> dict[str, Any]:
    """JSON schema of a job's request, made from `JobConfig`."""
    document = JobConfig.model_json_schema()
    properties: dict[str, Any] = dict(OWN_FIELDS)
    for name in accepted_fields():
        properties[name] = property_schema(name, document["properties"][name])
    return {
        "type": "object", "additionalProperties": False, "properties": properties,
        "required": [n for n in document["required"] if n in properties],
        "examples": [
            {"model": "mdl_4kQ0Zr6oJm2WcTn1YsVb3x", "calibration": "dat_9Xw2Lp7sUe5RdKc8HgNa1f",
             "validation": "dat_1Bv6Ty3qMi0ZoPj4EuSx7k", "latency_budget": "60%",
             "max_drop": "1pt", "trials": 20, "time_limit": "20m"}
        ],
    }  # fmt: skip


def property_schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A configuration's field as a client may give it."""
    told: dict[str, Any] = {key: schema[key] for key in ("description", "default") if key in schema}
    if name == TARGET_FIELD:
        return {**told, "type": "string", "description": _OF_A_TARGET}
    if name in (MODEL_FIELD, *DATASET_FIELDS):
        return {**told, "type": "string", "description": f"Id of an upload. {told['description']}"}
    if name in _chosen_names():
        return {**told, "type": "string", "enum": list(_chosen_names()[name])}
    if name == "time_limit":
        return {**told, "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}
    if "$ref" in json.dumps(schema):
        # a class of ours is spelled in JSON as it is on the command line
        if schema.get("type") == "array":
            return {**told, "type": "array", "items": {"type": "string"}}
        return {**told, "type": "string"}
    return schema


def check_names(fields: Mapping[str, JsonValue]) -> None:
    """Refuse fields that a client may not give, and names that are not shipped.

    Raises:
        ConfigError: which one, and what may be given.
    """
    allowed = {*accepted_fields(), *OWN_FIELDS}
    for name in fields:
        if name not in allowed:
            what = "is the server's to decide" if name in JobConfig.model_fields else "is no field"
            raise ConfigError(f"{name!r} {what}", hint=f"fields: {', '.join(sorted(allowed))}")
    check_chosen(fields)


def check_chosen(fields: Mapping[str, JsonValue]) -> None:
    """Refuse names of plug-ins that are not shipped.

    Raises:
        ConfigError: which one, and what may be given.
    """
    for name, known in _chosen_names().items():
        if name in fields and fields[name] is not None and fields[name] not in known:
            raise ConfigError(
                f"{name}: {fields[name]!r} is not available", hint=f"known: {', '.join(known)}"
            )


def label_of(fields: Mapping[str, JsonValue]) -> tuple[str, int]:
    """A job's name and priority.

    Raises:
        ConfigError: too long, or too large.
    """
    name, priority = fields.get("name", ""), fields.get("priority", 0)
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ConfigError(f"name: give up to {_LONGEST_NAME} printable characters")
    if type(priority) is not int or abs(priority) > _MOST_PRIORITY:
        raise ConfigError(f"priority: give a whole number up to {_MOST_PRIORITY}")
    return name, priority


def device_of(fields: Mapping[str, JsonValue]) -> str | None:
    """The device that a job is for; None for any.

    Raises:
        ConfigError: it is no name.
    """
    device = fields.get("device")
    if device is None:
        return None
    if not isinstance(device, str) or not device.isprintable() or len(device) > _LONGEST_NAME:
        raise ConfigError("device: give the name of one", hint="GET /v1/devices tells them")
    return device


def read_job(
    fields: Mapping[str, JsonValue], paths: Mapping[str, Any], max_time_limit: float
) -> JobConfig:
    """The job's configuration, with the server's paths in place of ids.

    Args:
        fields: what was asked.
        paths: field -> path, for every field that was an id; and what a target decides.
        max_time_limit: the server's, in seconds.

    Raises:
        ConfigError: a field is missing or wrong, as on the command line.
    """
    given = {k: v for k, v in fields.items() if k not in OWN_FIELDS and v is not None}
    config = read_config({**given, **paths, "output_dir": "out"})
    if asked_seconds(config) > max_time_limit:
        raise ConfigError(
            f"time_limit, with recover_time where there is a recovery: this server allows up to "
            f"{max_time_limit:.0f} seconds",
            hint="ask for less; a job can be resumed",
        )
    return config


def asked_seconds(config: JobConfig) -> float:
    """Time that a job asks for, its training included."""
    return config.time_limit + (config.recover_time if config.recover is not None else 0.0)


def digest_of(fields: Mapping[str, JsonValue]) -> str:
    """The same for the same request, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
