"""Quality: the metric of a runtime file, and its drop against the dense model with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from autosparse.datasets import Dataset, batches
from autosparse.errors import CandidateError, MeasurementError
from autosparse.evaluation.backend import Array, Runner
from autosparse.evaluation.measurement import Interval
from autosparse.evaluation.metrics import Floats, Metric, Outputs
from autosparse.evaluation.paired_rows import counts_rows, score_interval

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


def run_dataset(runner: Runner, data: Dataset, batch_size: int) -> Outputs:
    """Every output of every row.

    Raises:
        MeasurementError: the runtime fails on a row, or an output has no row axis.
    """
    return Outputs(
        values=_run_inputs(runner, data.inputs, batch_size),
        pair_values=None
        if data.pair_inputs is None
        else _run_inputs(runner, data.pair_inputs, batch_size),
    )


def _run_inputs(runner: Runner, inputs: Mapping[str, Array], batch_size: int) -> dict[str, Array]:
    collected: dict[str, list[Array]] = {}
    for batch, real in batches(inputs, batch_size):
        for name, values in runner.run(batch).items():
            if values.ndim == 0 or values.shape[0] != batch_size:
                raise MeasurementError(
                    f"output {name!r} has the shape {values.shape} for {batch_size} rows: its "
                    "first axis does not count rows"
                )
            collected.setdefault(name, []).append(values[:real])
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def compare_quality(metric: Metric, candidate: Outputs, dense: Outputs, data: Dataset) -> Quality:
    """Judge a candidate's outputs against the dense model's on the same rows.

    The interval of the drop is from resampling rows in pairs. Of a metric that is a share of rows
    it is no narrower than the score interval: drawing rows again tells nothing of those that were
    not seen.

    Raises:
        CandidateError: the candidate's outputs cannot be judged: they are NaN or infinite.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    theirs = metric.score(dense, dense, data.labels)
    mine = metric.score(candidate, dense, data.labels)
    broken = np.count_nonzero(~np.isfinite(mine))
    if broken:
        raise CandidateError(f"{metric.name} is NaN or infinite for {broken} of {len(mine)} rows")
    base_value = metric.aggregate(theirs, data.labels)
    value = metric.aggregate(mine, data.labels)
    drops = _resampled_drops(metric, theirs, mine, data)
    low, high = (float(end) for end in np.percentile(sign * drops, [2.5, 97.5]))
    # the dense model beside itself loses nothing; of any other, few rows tell little
    if candidate is not dense and counts_rows(metric, theirs, mine):
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


def _resampled_drops(metric: Metric, theirs: Floats, mine: Floats, data: Dataset) -> Floats:
    """(resamples,): the dense model's value less the candidate's, rows drawn in pairs."""
    rng = np.random.default_rng(0)
    drops = np.empty(_RESAMPLES)
    lost = theirs - mine
    for index in range(_RESAMPLES):
        rows = rng.integers(0, len(mine), size=len(mine))
        if metric.is_mean:
            drops[index] = lost[rows].mean()
            continue
        labels = None if data.labels is None else data.labels[rows]
        drops[index] = metric.aggregate(theirs[rows], labels) - metric.aggregate(mine[rows], labels)
    return drops
