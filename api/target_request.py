"""What may be stored as a target over HTTP: the fields of a target file, as its schema has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import GetJsonSchemaHandler, JsonValue, RootModel, ValidationError
from pydantic_core import CoreSchema

from api.job_request import check_chosen
from autosparse.errors import ConfigError, first_problem
from autosparse.evaluation import Target
from backends import BACKENDS

# It would connect to whatever the server can reach, with a file of the server as key. Empty they
# may be: a file that was written for the command line has them.
_NOT_HERE = ("address", "key_file")


class TargetRequest(RootModel[dict[str, JsonValue]]):
    """The fields of a target file."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return target_schema()


def target_schema() -> dict[str, Any]:
    """JSON schema of a target's request, made from `Target`."""
    properties: dict[str, Any] = dict(Target.model_json_schema()["properties"])
    for name in _NOT_HERE:
        properties[name] = {
            "const": "", "default": "",
            "description": "Stays empty: the service measures on its own device.",
        }  # fmt: skip
    properties["backend"] = {**properties["backend"], "enum": list(BACKENDS.names())}
    return {
        "type": "object", "additionalProperties": False, "properties": properties,
        "examples": [{"name": "edge-box", "backend": "onnxruntime", "threads": 2}],
    }  # fmt: skip


def read_target(fields: Mapping[str, JsonValue]) -> Target:
    """A target that this service can measure on.

    Raises:
        ConfigError: it does not follow the schema, lies elsewhere, or its backend is unknown.
    """
    try:
        # strict, as the schema is: "2" and true are no number of threads
        target = Target.model_validate_json(json.dumps(dict(fields)), strict=True)
    except ValidationError as error:
        raise ConfigError(f"the target: {first_problem(error)}") from error
    if target.address:
        raise ConfigError(
            "the target has an address: the service measures on its own device only",
            hint="run `autosparse optimize` where the agent can be reached",
        )
    check_chosen({"backend": target.backend})
    return target
