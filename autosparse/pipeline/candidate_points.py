"""What a search proposed and did not measure, as the report plots it."""

from __future__ import annotations

import math

from autosparse.artifacts.report_data import CandidatePoint
from autosparse.levels.table import LevelTable
from autosparse.pipeline.search_run import Search
from autosparse.search import CandidateRecord, Rung


def candidate_points(search: Search, table: LevelTable) -> tuple[CandidatePoint, ...]:
    """One point for every candidate that was screened or sampled and is no trial.

    What failed has no place in a plot. Candidates of a space that is no longer searched are left
    out, too: the level table need not know their levels.
    """
    measured = {trial.recipe.id for trial in search.trials}
    return tuple(
        _point(recipe_id, record, search, table)
        for recipe_id, record in search.proposed.items()
        if record.rung is not Rung.FAILED
        and recipe_id not in measured
        and search.space.contains(record.recipe)
    )


def _point(
    recipe_id: str, record: CandidateRecord, search: Search, table: LevelTable
) -> CandidatePoint:
    ratio = record.predicted_ratio
    if ratio is None:  # its size was all that was looked at
        ratio = search.predictor.predict(record.recipe).ratio
    if record.rung is Rung.SCREENED:
        return CandidatePoint(
            recipe_id=recipe_id, rung="screened", predicted_ratio=ratio,
            divergence=table.summed_divergence(record.recipe.levels), reason=record.reason,
        )  # fmt: skip
    divergence = math.inf if record.divergence is None else record.divergence
    return CandidatePoint(
        recipe_id=recipe_id, rung="sampled", predicted_ratio=ratio, divergence=divergence
    )
