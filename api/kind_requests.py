"""What may be asked of the jobs that are no search: fields of their own configurations.

As for a search (`job_request.py`), there is no second configuration: fields, help and checks are
those of `ResolveConfig` and `ProfileConfig`, but for what names a place on the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    RootModel,
    ValidationError,
)
from pydantic_core import CoreSchema

from api.job_request import OWN_FIELDS, check_chosen, property_schema
from autosparse.errors import ConfigError, first_problem
from autosparse.pipeline.config import ProfileConfig
from autosparse.pipeline.resolve_config import ResolveConfig

_PLACES = frozenset(
    {"source", "output_dir", "model", "calibration", "validation", "test", "target"}
)
# as of a search: a matter of the machine
_SERVERS_OWN = frozenset({"workers", "ray_address"})
RESOLVE_FIELDS = tuple(
    name for name in ResolveConfig.model_fields if name not in _PLACES | _SERVERS_OWN
)
# an atlas that is made again is measured anew
ATLAS_FIELDS = tuple(
    name for name in ProfileConfig.model_fields if name not in ("atlas", "fresh", "output_dir")
)
JobId = Annotated[str, Field(pattern=r"^job_[A-Za-z0-9]{1,32}$", max_length=40)]


class ReverifyFields(BaseModel):
    """How a bundle is measured again."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"tolerance": 0.1}]},
    )  # fmt: skip

    name: str = ""
    """Name of the job, for people."""
    priority: int = 0
    """Higher ones are begun first."""
    device: str | None = None
    """Device to measure on; without it, the one that the job ran on that delivered it."""
    tolerance: Annotated[float, Field(gt=0, le=10)] = 0.1
    """How much slower than when it was delivered is no regression: 0.1 is 10 %."""


class ReverifyRequest(ReverifyFields):
    """Which bundle is measured again, and how."""

    job: JobId
    """The job that delivered it."""


class ResolveRequest(RootModel[dict[str, JsonValue]]):
    """What is to be different in the answer of a finished job."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            **_schema(ResolveConfig, RESOLVE_FIELDS),
            "examples": [{"latency_budget": "6ms", "max_drop": "0.5pt"}],
        }


class AtlasRequest(RootModel[dict[str, JsonValue]]):
    """Which model's layer shapes an atlas measures, where, and at which levels."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            **_schema(ProfileConfig, ATLAS_FIELDS), "required": ["model"],
            "examples": [{"model": "mdl_4kQ0Zr6oJm2WcTn1YsVb3x", "levels": ["2:4:int8"]}],
        }  # fmt: skip


def _schema(kind: type[BaseModel], names: tuple[str, ...]) -> dict[str, Any]:
    every = kind.model_json_schema(mode="serialization")["properties"]
    properties: dict[str, Any] = dict(OWN_FIELDS)
    properties |= {name: property_schema(name, every[name]) for name in names}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def check_fields(fields: Mapping[str, JsonValue], names: tuple[str, ...]) -> None:
    """Refuse fields that may not be given, and names that are not shipped.

    Raises:
        ConfigError: which one, and what may be given.
    """
    for name in fields:
        if name not in names and name not in OWN_FIELDS:
            told = ", ".join(sorted((*names, *OWN_FIELDS)))
            raise ConfigError(f"{name!r} is no field", hint=f"fields: {told}")
    check_chosen(fields)


def read_reverify(fields: Mapping[str, JsonValue]) -> ReverifyRequest:
    """Which bundle, and how.

    Raises:
        ConfigError: a field is missing or wrong.
    """
    try:
        return ReverifyRequest.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from error


def job_named(fields: Mapping[str, JsonValue]) -> str:
    """The job that a request is about.

    Raises:
        ConfigError: it names none.
    """
    job = fields.get("job")
    if not isinstance(job, str):
        raise ConfigError("job: give the id of a finished job")
    return job
