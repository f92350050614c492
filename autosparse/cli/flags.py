"""Flags of the command line, made from the fields of the job's configuration."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autosparse.evaluation import Budget, MaxBytes, MaxDrop
from autosparse.levels import Level
from autosparse.pipeline.config import OF_TRAINING, JobConfig, TargetedModel
from autosparse.pipeline.duration import duration_words, read_duration

_NOT_FLAGS = frozenset({"schema_version"})
_SEVERAL: dict[str, Any] = {"action": "append"}
_A_LADDER = "May be repeated: then each target with each budget is a job, and all have a bundle."
_GROUPS: Mapping[str, Collection[str]] = {
    "the contract": (
        "percentile", "max_drop", "max_size", "max_memory", "strict", "metric", "test",
    ),
    "where the model runs": tuple(TargetedModel.model_fields),
    "layers and levels": (
        "space", "exclude", "keep", "group", "prepare", "atlas", "table_limit",
    ),
    "recovery training": ("recover", *OF_TRAINING),
}  # fmt: skip
"""Title -> fields of a job that its help shows together. Those that must be given stand before
them all, and what is in none of them is of the search."""
_REQUIRED, _OF_THE_SEARCH = "required", "the search"
_VALUES: Mapping[type, str] = {
    Budget: "LATENCY", MaxDrop: "DROP", MaxBytes: "BYTES", Level: "LEVEL", Path: "FILE",
    int: "N", float: "NUMBER",
}  # fmt: skip
# as they travel: what is no text over HTTP is none here
_WISHES: dict[Any, dict[str, Any]] = {
    bool: {"action": argparse.BooleanOptionalAction}, int: {"type": int},
}  # fmt: skip


def add_config_flags(
    parser: argparse.ArgumentParser,
    kind: type[BaseModel] = JobConfig,
    several: Collection[str] = (),
) -> None:
    """One flag for every field; what is not given stays absent, so that a file can say it.

    Args:
        parser: gets the flags.
        kind: whose fields they are; the first one is the argument that needs no flag.
        several: fields of which the command takes more than one, each a job of its own.
    """
    fields = kind.model_fields
    positional = next(iter(fields))
    places = _groups(parser) if kind is JobConfig else {}
    first = places.get(_REQUIRED, parser)
    first.add_argument(positional, nargs="?", type=Path, help=_help(fields[positional]))
    for name, field in fields.items():
        if name in _NOT_FLAGS or name == positional:
            continue
        repeats = name in several
        places.get(_title(name, field), parser).add_argument(
            "--" + name.replace("_", "-"), dest=name, default=argparse.SUPPRESS,
            help=f"{_help(field)} {_A_LADDER}" if repeats else _help(field),
            **{**_shape(field), **(_SEVERAL if repeats else {})},
        )  # fmt: skip


def what_a_job_needs() -> str:
    """The beginning of a job's command line: its usage names what must be given, and no more."""
    given = [
        f"--{name.replace('_', '-')} {_metavar(field)}"
        for name, field in JobConfig.model_fields.items()
        if field.is_required() and name != "model"
    ]
    return f"%(prog)s model {' '.join(given)} [options]"


def add_wishes(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """Flags for some fields of a job that is there; what is not given stays as it was.

    Args:
        parser: gets the flags.
        names: of the fields.
    """
    for name in names:
        field = JobConfig.model_fields[name]
        told = " ".join((field.description or "").split()).replace("%", "%%")
        parser.add_argument(
            "--" + name.replace("_", "-"), dest=name, default=argparse.SUPPRESS, help=told,
            **{**_shape(field), **_WISHES.get(field.annotation, {})},
        )  # fmt: skip


def given_fields(
    arguments: argparse.Namespace, kind: type[BaseModel] = JobConfig
) -> dict[str, Any]:
    """The configuration's fields that were given on the command line."""
    given = {k: v for k, v in vars(arguments).items() if k in kind.model_fields}
    return {name: value for name, value in given.items() if value is not None}


def spelled_default(field: FieldInfo) -> str:
    """What a field is where it is not given, as people write it; empty where that is nothing."""
    default = field.get_default(call_default_factory=True)
    if default is None or default in ((), {}):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return duration_words(default) if _is_duration(field) else str(default)


def _groups(parser: argparse.ArgumentParser) -> dict[str, argparse._ArgumentGroup]:
    """Places for the flags of a job, in the order in which its help shows them."""
    titles = (_REQUIRED, *_GROUPS, _OF_THE_SEARCH)
    return {title: parser.add_argument_group(title) for title in titles}


def _title(name: str, field: FieldInfo) -> str:
    """Of the group that a field of a job is shown in."""
    if field.is_required():
        return _REQUIRED
    return next((title for title, names in _GROUPS.items() if name in names), _OF_THE_SEARCH)


def _shape(field: FieldInfo) -> dict[str, Any]:
    """What argparse is told of a flag besides its name and its help."""
    if field.annotation is bool:
        return {"action": "store_true"}
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "without_value" in extra:
        return {"nargs": "?", "const": extra["without_value"], "metavar": "METHOD"}
    repeats = get_origin(field.annotation) in (tuple, dict)
    return {**(_SEVERAL if repeats else {}), "metavar": _metavar(field)}


def _metavar(field: FieldInfo) -> str:
    """What help shows in place of a value: the choices, or the kind of thing it is."""
    if (field.description or "").startswith("Directory"):
        return "DIRECTORY"
    if _is_duration(field):
        return "TIME"
    kinds = list(_kinds(field.annotation))
    choices = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if choices:
        return f"{{{','.join(choices)}}}"
    return next((_VALUES[kind] for kind in kinds if kind in _VALUES), "VALUE")


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that a value may be of: optional ones and sequences taken apart."""
    parts = get_args(annotation)
    if not parts or get_origin(annotation) in (Literal, dict):
        yield annotation
        return
    for part in parts:
        yield from _kinds(part)


def _is_duration(field: FieldInfo) -> bool:
    return any(getattr(part, "func", None) is read_duration for part in field.metadata)


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    if not field.is_required() and field.annotation is not bool:
        shown = spelled_default(field)
        text += f" Default: {shown}." if shown else ""
    return text.replace("%", "%%")
