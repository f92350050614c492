"""A level: one option for one layer, pattern x precision x the method that makes it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

from autosparse.errors import ConfigError
from autosparse.levels.pattern import Dense, Pattern, parse_pattern


class Precision(StrEnum):
    """Number format of a layer's weights (and, for int8, of its activations).

    Activations around an int4 layer are float32: only its weights are integers in the file.
    """

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


class Level(BaseModel):
    """One option for one layer, spelled `pattern:precision[+method]`.

    Examples: `dense:fp32`, `dense:int8`, `2:4:fp32`, `unstructured@0.90:fp32+wanda`. Without a
    method, the one the search space prefers is used. Serialised as its spelling.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pattern: Pattern
    """Shape of the zeros."""
    precision: Precision
    """Number format."""
    method: str | None = None
    """Name of the method that makes the level, or None where the space decides."""

    @classmethod
    def parse(cls, text: str) -> Level:
        """Read a spelling.

        Raises:
            ConfigError: not a level; the message says which half is wrong.
        """
        body, _, method = text.partition("+")
        pattern, colon, precision = body.rpartition(":")
        if not colon or precision not in set(Precision):
            raise ConfigError(
                f"{text!r} is no level",
                hint=f"write PATTERN:PRECISION with one of {', '.join(Precision)}: dense:int8",
            )
        return cls(
            pattern=parse_pattern(pattern), precision=Precision(precision), method=method or None
        )

    @model_validator(mode="before")
    @classmethod
    def _from_spelling(cls, data: Any) -> Any:
        if isinstance(data, str):
            level = cls.parse(data)
            return {
                "pattern": level.pattern,
                "precision": level.precision,
                "method": level.method,
            }
        return data

    @model_serializer
    def _to_spelling(self) -> str:
        return str(self)

    @property
    def sparsity(self) -> float:
        """Fraction of weights that the pattern makes zero."""
        return self.pattern.sparsity

    @property
    def is_baseline(self) -> bool:
        """Whether this level leaves the layer as it came."""
        return isinstance(self.pattern, Dense) and self.precision is Precision.FP32

    def without_method(self) -> Level:
        """The same option, whatever makes it."""
        return self.model_copy(update={"method": None})

    def __str__(self) -> str:
        spelling = f"{self.pattern}:{self.precision.value}"
        return f"{spelling}+{self.method}" if self.method else spelling


BASELINE = Level(pattern=Dense(), precision=Precision.FP32)
