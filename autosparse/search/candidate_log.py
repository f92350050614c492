"""The candidate log: everything that was proposed, how far it came, and why it stopped there."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.levels import Recipe


class Rung(StrEnum):
    """How far a candidate came."""

    SCREENED = "screened"
    """Judged by predicted latency and the table's errors only."""
    SAMPLED = "sampled"
    """Run on a few rows."""
    MEASURED = "measured"
    """Evaluated on all selecting rows and measured on the target: a trial."""
    FAILED = "failed"
    """Could not be lowered, run or timed."""


class CandidateRecord(BaseModel):
    """One candidate's end."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    recipe: Recipe
    """What was proposed."""
    rung: Rung
    """How far it came."""
    reason: str = ""
    """Why it went no further; empty for a trial."""
    no_memory: bool = False
    """Whether that is memory: a job that is resumed tries it once more."""
    divergence: float | None = None
    """From the dense model's outputs, on the rows of the sampling rung."""
    rows: int | None = None
    """How many rows those are; None where an earlier version wrote the record: 64 at most."""
    sample: str | None = None
    """Which rows those are, by a digest; None where an earlier version wrote the record."""
    predicted_ratio: float | None = None
    """Predicted latency over the baseline's."""
    bound: float | None = None
    """Of a screened one: the latency, over the baseline's, that it was found to exceed."""
    size_bytes: int | None = None
    """Size of its files, where it was lowered."""
    predicted_size_bytes: float | None = None
    """What its files were thought to weigh, where that is why it went no further."""
