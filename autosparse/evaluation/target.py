"""A target: a named device with everything fixed that a latency depends on. A small file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from autosparse.errors import ConfigError, first_problem
from autosparse.evaluation.address import (
    AGENT_SCHEME,
    SIMULATION_SCHEME,
    checked_address,
)
from autosparse.evaluation.environment import Environment
from autosparse.model_graph import ModelGraph
from autosparse.tensor_spec import TensorSpec

ANY_BACKEND = "auto"
"""In place of a backend: whichever of them gives the better answer."""
_SHAPE = re.compile(r"([^=]+)=([1-9]\d{0,17}(?:,[1-9]\d{0,17})*)?")


class Target(BaseModel):
    """Where and how the model will run. Only what is in here decides a latency."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this file's schema."""
    name: str = "local-cpu"
    """Name of the device, for people."""
    device: Literal["cpu"] = "cpu"
    """Kind of device."""
    backend: str = "onnxruntime"
    """Backend that runs the model there; auto: the one with the better answer, of a job on each."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads that one inference may use."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Rows in one inference."""
    input_shapes: dict[str, tuple[Annotated[int, Field(ge=1)], ...]] = Field(default_factory=dict)
    """Full shape of every input, the batch included; filled in from the model where it is fixed."""
    address: str = ""
    """Where an agent measures: rpc://HOST:PORT; or sim://NAME, where nothing is measured and an
    analytic model takes its place. Without it, this machine measures."""
    architecture: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,20}$")] = ""
    """Architecture of the device, which our kernels are compiled for. Without it: the agent's
    answer, or this machine's."""
    key_file: str = ""
    """File with the agent's key; without it, the key is in AUTOSPARSE_AGENT_KEY."""

    @field_validator("device", mode="before")
    @classmethod
    def _is_a_processor(cls, value: object) -> object:
        if value == "cuda":
            raise ConfigError(
                "no job runs on a GPU yet: there are kernels for GPUs, and no backend with them",
                hint="leave device away, for a processor",
            )
        return value

    @field_validator("address")
    @classmethod
    def _is_one(cls, value: str) -> str:
        return checked_address(value) if value else ""

    @model_validator(mode="after")
    def _a_key_needs_an_agent(self) -> Self:
        if self.key_file and not self.address.startswith(AGENT_SCHEME):
            raise ConfigError(
                "the target has a key_file and no agent's address",
                hint="add address: rpc://HOST:PORT of the agent that the key is for",
            )
        return self

    @property
    def is_simulated(self) -> bool:
        """Whether no latency of this target was ever measured."""
        return self.address.startswith(SIMULATION_SCHEME)

    @classmethod
    def at(cls, address: str, like: Target) -> Target:
        """The device behind an address, with everything else as it is in another target.

        Raises:
            ConfigError: no address.
        """
        named = (
            f"SIMULATED {address.removeprefix(SIMULATION_SCHEME)}"
            if address.startswith(SIMULATION_SCHEME)
            else f"agent {address.removeprefix(AGENT_SCHEME)}"
        )
        return cls.model_validate(
            {**like.model_dump(), "name": named, "address": address, "key_file": ""}
        )

    @classmethod
    def load(cls, path: Path) -> Target:
        """Read a target file.

        Raises:
            ConfigError: the file is missing, is not YAML, or does not follow the schema.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"cannot read the target {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
            raise ConfigError(f"{path} is no target file: {first_problem(error)}") from error

    def to_yaml(self) -> str:
        """The file's text."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def on(self, environment: Environment) -> Target:
        """This target with the architecture of the device that measures.

        Raises:
            ConfigError: the target names another one.
        """
        machine = environment.machine
        if self.architecture not in ("", machine):
            where = f"the device at {self.address}" if self.address else "this machine"
            raise ConfigError(
                f"the target {self.name!r} is {self.architecture}, and {where} is {machine}",
                hint="leave architecture away, or give the address of an agent on such a device",
            )
        return self.model_copy(
            update={"architecture": machine if self.address else self.architecture}
        )

    def for_model(self, graph: ModelGraph) -> Target:
        """This target with the shape of every input of `graph` filled in.

        Raises:
            ConfigError: a free dimension other than the batch has no size, or one contradicts
                the model.
        """
        known = {spec.name for spec in graph.inputs}
        for name in self.input_shapes:
            if name not in known:
                raise ConfigError(
                    f"--input-shape names {name!r}, which is no input of the model",
                    hint=f"its inputs are: {', '.join(sorted(known))}",
                )
        shapes = {spec.name: self._shape_of(spec) for spec in graph.inputs}
        return self.model_copy(update={"input_shapes": shapes})

    def _shape_of(self, spec: TensorSpec) -> tuple[int, ...]:
        if spec.shape and isinstance(spec.shape[0], int) and spec.shape[0] != self.batch_size:
            raise ConfigError(
                f"the model's batch is fixed at {spec.shape[0]}, not {self.batch_size}",
                hint=f"use --batch-size {spec.shape[0]}, or export with a dynamic batch",
            )
        given = self.input_shapes.get(spec.name)
        if given is None:
            return self._shape_without_help(spec)
        fits = len(given) == len(spec.shape) and all(
            isinstance(dim, str) or dim == size
            for dim, size in zip(spec.shape, given, strict=False)
        )
        if not fits:
            raise ConfigError(
                f"--input-shape {spec.name}={','.join(map(str, given))} does not fit the model's "
                f"input {spec}"
            )
        if spec.shape and isinstance(spec.shape[0], str) and given[0] != self.batch_size:
            raise ConfigError(
                f"--input-shape gives {spec.name!r} {given[0]} rows, but --batch-size is "
                f"{self.batch_size}",
                hint="give the same number to both",
            )
        return given

    def _shape_without_help(self, spec: TensorSpec) -> tuple[int, ...]:
        sizes: list[int] = []
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, int):
                sizes.append(dim)
            elif axis == 0:
                sizes.append(self.batch_size)
            else:
                example = ",".join(
                    str(d) if isinstance(d, int) else str(self.batch_size) if i == 0 else "128"
                    for i, d in enumerate(spec.shape)
                )
                raise ConfigError(
                    f"input {spec} has a free dimension, so its size must be given",
                    hint=f"for example --input-shape {spec.name}={example}",
                )
        return tuple(sizes)


def parse_input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read `name=1,128`.

    Raises:
        ConfigError: not of that form.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no input shape", hint="write name=1,128")
    return match[1], tuple(int(dim) for dim in (match[2] or "").split(",") if dim)
