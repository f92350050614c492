"""Trials as the report and the dashboard plot them."""

from __future__ import annotations

from autosparse.artifacts.report_data import TrialPoint
from autosparse.evaluation import Contract
from autosparse.pipeline.records import TrialRecord


def trial_points(
    trials: tuple[TrialRecord, ...], contract: Contract, plain_int8_id: str
) -> tuple[TrialPoint, ...]:
    """The trials as the report plots them."""
    return tuple(
        TrialPoint(
            recipe_id=trial.recipe.id,
            proposed_by=trial.proposed_by,
            latency_seconds=trial.latency_seconds,
            latency_ratio=trial.evidence.latency_ratio,
            drop=trial.evidence.drop,
            drop_interval=trial.quality.drop_interval,
            divergence=trial.evidence.divergence,
            compressed_layers=trial.evidence.compressed_layers,
            deliverable=trial.evidence.meets(contract),
            is_plain_int8=trial.recipe.id == plain_int8_id,
        )
        for trial in trials
    )
