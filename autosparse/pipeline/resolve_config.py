"""What `autosparse resolve` is asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from autosparse.errors import ConfigError
from autosparse.evaluation import Budget, MaxBytes, MaxDrop, Percentile
from autosparse.pipeline.config import explain
from autosparse.pipeline.duration import Duration


class ResolveConfig(BaseModel):
    """What `autosparse resolve` is asked to do. Every field is a flag of the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: Path
    """Delivered bundle beside its job, the output directory that holds both, or the study in it."""
    latency_budget: Budget | None = None
    """Largest latency: a time (8ms) or a share of the baseline's (60%). Without it: the job's."""
    max_drop: MaxDrop | None = None
    """Largest loss of quality: 0.5pt, 1% or 0.01. Without it: the job's."""
    max_size: MaxBytes | None = None
    """Largest size on disk of what runs: 20MB, or 40% of the model's. Without it: the job's."""
    max_memory: MaxBytes | None = None
    """Largest peak memory: 64MB, or 80% of the model's. Without it: the job's."""
    percentile: Percentile | None = None
    """Percentile of the latency that the budget bounds. Without it: the job's."""
    strict: bool = False
    """Hold the contract at the bound of the confidence interval, also where the job did not."""
    exclude: tuple[str, ...] = ()
    """More layers to leave as they are, by pattern. May be repeated."""
    keep: tuple[str, ...] = ()
    """More layers to fix at a level: "PATTERN=LEVEL". May be repeated."""
    group: tuple[str, ...] = ()
    """More groups of layers that share one level. May be repeated."""
    trials: Annotated[int, Field(ge=0)] = 4
    """Further recipes to measure on the target, at most."""
    time_limit: Duration = 300.0
    """Time for everything up to the verification: 90s, 30m, 2h."""
    workers: Annotated[int, Field(ge=0, le=4096)] | None = None
    """Processes that compress layers and evaluate candidates, on Ray. 0: all in this process.
    Without it: as many as the job had."""
    ray_address: str | None = None
    """Ray cluster to join, for example 10.0.0.1:6379. Without it: the job's."""
    output_dir: Path | None = None
    """Directory of the new bundle and job. Without it: the old one's name with the budget, and some
    letters that stand for whatever else is asked."""
    model: Path | None = None
    """The original model, if it was moved."""
    calibration: Path | None = None
    """The calibration file, if it was moved."""
    validation: Path | None = None
    """The validation file, if it was moved."""
    test: Path | None = None
    """A test file, whose result is only reported, or where the job's is now."""
    target: str | None = None
    """The target file, or the address of the agent, if it was moved."""

    @field_validator("exclude", "keep", "group", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


def read_resolve_config(fields: dict[str, Any]) -> ResolveConfig:
    """Build the configuration from the fields that were given.

    Raises:
        ConfigError: a field is missing, unknown or wrong.
    """
    try:
        return ResolveConfig.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(explain(error, ResolveConfig)) from error
