"""Flags of the command line, made from the fields of the job's configuration."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autosparse.pipeline.config import JobConfig

_NOT_FLAGS = frozenset({"schema_version"})
_SEVERAL: dict[str, Any] = {"action": "append", "metavar": "VALUE"}
_A_LADDER = "May be repeated: then each target with each budget is a job, and all have a bundle."


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
    parser.add_argument(positional, nargs="?", type=Path, help=_help(fields[positional]))
    for name, field in fields.items():
        if name in _NOT_FLAGS or name == positional:
            continue
        repeats = name in several
        parser.add_argument(
            "--" + name.replace("_", "-"), dest=name, default=argparse.SUPPRESS,
            help=f"{_help(field)} {_A_LADDER}" if repeats else _help(field),
            **(_SEVERAL if repeats else _shape(field)),
        )  # fmt: skip


def given_fields(
    arguments: argparse.Namespace, kind: type[BaseModel] = JobConfig
) -> dict[str, Any]:
    """The configuration's fields that were given on the command line."""
    given = {k: v for k, v in vars(arguments).items() if k in kind.model_fields}
    return {name: value for name, value in given.items() if value is not None}


def _shape(field: FieldInfo) -> dict[str, Any]:
    if field.annotation is bool:
        return {"action": "store_true"}
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "without_value" in extra:
        return {"nargs": "?", "const": extra["without_value"], "metavar": "METHOD"}
    if get_origin(field.annotation) in (tuple, dict):
        return _SEVERAL
    return {"metavar": "VALUE"}


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    if field.is_required() or field.default is None or field.annotation is bool:
        return text.replace("%", "%%")
    default = field.get_default(call_default_factory=True)
    shown = f" Default: {default}." if default not in ((), {}) else ""
    return (text + shown).replace("%", "%%")
