"""Quality: the metric of a runtime file, and its drop against the dense model with an interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from autosparse.datasets import Dataset
from autosparse.errors import CandidateError
from autosparse.evaluation.answers import Answers, Batch, Keeper
from autosparse.evaluation.measurement import Interval
from autosparse.evaluation.metrics import Floats, Metric
from autosparse.evaluation.paired_rows import counts_rows, score_interval
from autosparse.evaluation.scores import Array

_RESAMPLES = 500


class Quality(BaseModel):
    """A candidate's metric against the dense model's, on the same rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    metric: str
    """Name of the metric."""
    rows: int
    """Rows it was evaluated on."""
    baseline_value: float
    """The dense model's value."""
    value: float
    """The candidate's value."""
    drop: float
    """How much worse the candidate is, in the metric's unit: positive is worse."""
    drop_interval: Interval
    """95 % interval of the drop, from rows in pairs."""


def row_scores(
    answers: Iterable[Batch], metrics: Sequence[Metric], data: Dataset, dense: Answers | None = None
) -> list[Floats]:
    """Judge answers as they come, and keep a number for each row.

    A metric of the user's own is given all answers at once: they are gathered in memory first.

    Args:
        answers: to all rows of the data.
        metrics: by which they are judged; two that score alike are asked once.
        data: the rows.
        dense: the dense model's answers to them; None where these are.

    Returns:
        (rows,) by each metric.

    Raises:
        DataError: the labels do not fit a metric.
    """
    apart = {m.score: np.empty(len(data)) for m in metrics if m.judges_rows_apart}
    together = [m.score for m in metrics if not m.judges_rows_apart]
    keeper = Keeper(len(data)) if together else None
    for rows, outputs in answers if keeper is None else keeper.passing(answers):
        theirs = outputs if dense is None else dense.rows(rows)
        labels = None if data.labels is None else data.labels[rows]
        for score, found in apart.items():
            found[rows] = score(outputs, theirs, labels)
    scores = dict(apart)
    if keeper is not None:
        # the user's function is not given the dense model's
        whole = keeper.kept.loaded()
        scores.update({score: score(whole, whole, data.labels) for score in together})
    return [scores[metric.score] for metric in metrics]


def compare_quality(metric: Metric, mine: Floats, theirs: Floats, labels: Array | None) -> Quality:
    """Judge a candidate's scores against the dense model's on the same rows.

    The interval of the drop is from resampling rows in pairs. Of a metric that is a share of rows
    it is no narrower than the score interval: drawing rows again tells nothing of those that were
    not seen.

    Args:
        metric: what gave the scores.
        mine: (rows,) the candidate's.
        theirs: (rows,) the dense model's; the very same array where the candidate is that.
        labels: of the rows.

    Raises:
        CandidateError: the candidate's outputs cannot be judged: they are NaN or infinite.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    broken = np.count_nonzero(~np.isfinite(mine))
    if broken:
        raise CandidateError(f"{metric.name} is NaN or infinite for {broken} of {len(mine)} rows")
    base_value = metric.aggregate(theirs, labels)
    value = metric.aggregate(mine, labels)
    drops = _resampled_drops(metric, theirs, mine, labels)
    low, high = (float(end) for end in np.percentile(sign * drops, [2.5, 97.5]))
    # the dense model beside itself loses nothing; of any other, few rows tell little
    if mine is not theirs and counts_rows(metric, theirs, mine):
        lost = sign * (theirs - mine)
        won = float(np.maximum(-lost, 0.0).sum())
        ends = score_interval(float(np.maximum(lost, 0.0).sum()), won, len(mine))
        low, high = min(low, ends[0]), max(high, ends[1])
    return Quality(
        metric=metric.name,
        rows=len(mine),
        baseline_value=base_value,
        value=value,
        drop=sign * (base_value - value),
        drop_interval=Interval(low=low, high=high),
    )


def _resampled_drops(metric: Metric, theirs: Floats, mine: Floats, labels: Array | None) -> Floats:
    """(resamples,): the dense model's value less the candidate's, rows drawn in pairs."""
    rng = np.random.default_rng(0)
    drops = np.empty(_RESAMPLES)
    lost = theirs - mine
    for index in range(_RESAMPLES):
        rows = rng.integers(0, len(mine), size=len(mine))
        if metric.is_mean:
            drops[index] = lost[rows].mean()
            continue
        drawn = None if labels is None else labels[rows]
        drops[index] = metric.aggregate(theirs[rows], drawn) - metric.aggregate(mine[rows], drawn)
    return drops
