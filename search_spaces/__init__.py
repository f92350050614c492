"""Search spaces: declarative YAML files, one space each. The file's name is the space's name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autosparse.errors import ConfigError, first_problem
from autosparse.levels import Level

_DIRECTORY = Path(__file__).parent


class SparsityBound(BaseModel):
    """How many zeros a layer may be asked to bear, judged by its weights alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    measure: Literal["pq_index", "knee"]
    """`pq_index`: the bound of the PQ index on the weights to keep. `knee`: the knee of the norm
    that pruning by magnitude leaves."""
    slack: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """For `pq_index`: how much of the sum of magnitudes may be removed, over what is kept."""

    @model_validator(mode="after")
    def _a_knee_has_no_slack(self) -> Self:
        if self.measure == "knee" and "slack" in self.model_fields_set:
            raise ValueError("slack belongs to pq_index: a knee has none")
        return self


class SpaceFile(BaseModel):
    """The levels that a search may consider for every layer it may touch."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this file's schema."""
    description: str
    """What the space is for, in a sentence."""
    levels: Annotated[tuple[Level, ...], Field(min_length=1)]
    """Levels besides `dense:fp32`, each with the method that makes it."""
    groups: tuple[str, ...] = ()
    """Regular expressions on layers' names: layers for which the capture groups of one are equal
    share a level. As `--group`."""
    bound: SparsityBound | None = None
    """Largest fraction of zeros of each layer; without it, only measurements decide."""


def names() -> tuple[str, ...]:
    """Names of the spaces that ship with the product."""
    return tuple(sorted(path.stem for path in _DIRECTORY.glob("*.yaml")))


def own_space(name_or_path: str) -> Path | None:
    """The user's own file; None for a shipped space."""
    own = Path(name_or_path)
    return own if own.suffix in (".yaml", ".yml") else None


def load_space(name_or_path: str) -> SpaceFile:
    """Read a shipped space by name, or a file of the user's own.

    Raises:
        ConfigError: no such space, or the file does not follow the schema.
    """
    own = own_space(name_or_path)
    path = own or _DIRECTORY / f"{name_or_path}.yaml"
    if own is None and name_or_path not in names():
        raise ConfigError(
            f"no search space is called {name_or_path!r}",
            hint=f"known: {', '.join(names())}, or the path of a .yaml file",
        )
    try:
        return SpaceFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read the search space {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError, ConfigError) as error:
        raise ConfigError(f"{path} is no search space: {first_problem(error)}") from error
