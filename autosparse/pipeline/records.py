"""What a trial leaves behind."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.evaluation import Comparison, Evidence, Percentile, Quality
from autosparse.levels import Recipe


class TrialRecord(BaseModel):
    """One recipe that reached full data and the target. Written once, when complete."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    recipe: Recipe
    """What was lowered."""
    evidence: Evidence
    """What the gate looks at."""
    quality: Quality
    """Metric on the rows that select."""
    latency_seconds: float
    """The candidate's latency at the contract's percentile."""
    baseline_seconds: float
    """The baseline's latency in the same run."""
    environment: str
    """Id of the environment it was measured in."""
    proposed_by: str
    """Strategy, or `start`."""
    seconds_since_start: float
    """When it was complete, from the start of the job."""


class MeasuredTrial(BaseModel):
    """Raw samples behind one trial, kept apart from the study for their size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe_id: str
    comparison: Comparison


def evidence_of(
    recipe: Recipe,
    quality: Quality,
    divergence: float,
    comparison: Comparison,
    percentile: Percentile,
) -> Evidence:
    """Reduce what was measured to what the gate looks at."""
    return Evidence(
        recipe_id=recipe.id,
        latency_ratio=comparison.ratio(percentile),
        latency_ratio_high=comparison.ratio_interval(percentile).high,
        drop=quality.drop,
        drop_high=quality.drop_interval.high,
        divergence=divergence,
        compressed_layers=len(recipe.compressed_layers),
    )
