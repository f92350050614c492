"""A recipe: a level for every layer, plus runtime knobs; a small replayable file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autosparse.errors import ConfigError, first_problem
from autosparse.levels.level import Level


class Knobs(BaseModel):
    """How the runtime is asked to run the file. Frozen into the artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    graph_level: Literal["disabled", "basic", "extended", "all"] = "all"
    """Graph optimization level of the runtime's session."""
    activation_type: Literal["uint8", "int8"] = "uint8"
    """Integer type of the activations around int8 layers. The grid's points are the same real
    numbers with either: processors differ in which they multiply faster."""


class Recipe(BaseModel):
    """What to do to every layer of one model.

    Two recipes with the same `id` ask for the same file: the id is a digest of the content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this file's schema."""
    model_sha256: str
    """SHA-256 of the model file the recipe was made for."""
    levels: dict[str, Level]
    """Level of every layer, by the layer's name."""
    knobs: Knobs = Field(default_factory=Knobs)
    """Runtime settings that travel with the file."""
    recovered: str | None = None
    """Digest of the weights that a recovery training made of this recipe; None for those of the
    level table."""

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this recipe."""
        content = self.model_dump(mode="json")
        # recipes from before there was a choice keep their id
        if self.knobs.activation_type == "uint8":
            del content["knobs"]["activation_type"]
        if self.recovered is None:
            del content["recovered"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def compressed_layers(self) -> tuple[str, ...]:
        """Names of the layers that do not stay as they came."""
        return tuple(name for name, level in self.levels.items() if not level.is_baseline)

    def to_yaml(self) -> str:
        """The file's text, in ASCII: PyYAML does not read back every line break it writes."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe file.

        Raises:
            ConfigError: the file is missing, is not YAML, or does not follow the schema.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
            raise ConfigError(f"{path} is no recipe: {first_problem(error)}") from error
