"""Can the model's own answers be judged? A row without one would fail every candidate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from autosparse.datasets import Dataset, halves
from autosparse.errors import DataError
from autosparse.evaluation.metrics import Metric, Outputs, default_metric
from autosparse.pipeline.job import Job


def check_answers(job: Job, selecting: Outputs) -> None:
    """Make sure that the dense model has an answer to every row that will ever be judged.

    Args:
        job: with its data.
        selecting: the model's answers to the rows that select.

    Raises:
        DataError: a row of the validation or the test file has none.
        MeasurementError: the runtime fails on a row.
    """
    rows = len(job.selecting) + len(job.gating)
    first, second = halves(rows, job.config.seed)
    _check(job, job.selecting, selecting, "validation", first)
    _check(job, job.gating, job.answer(job.original, job.gating), "validation", second)
    if job.test is not None:
        numbers = np.arange(len(job.test))
        _check(job, job.test, job.answer(job.original, job.test), "test", numbers)


def _check(
    job: Job, data: Dataset, outputs: Outputs, role: str, numbers: npt.NDArray[np.int64]
) -> None:
    for metric in _metrics(job):
        scores = metric.score(outputs, outputs, data.labels)
        broken = numbers[~np.isfinite(scores)]
        if broken.size:
            others = f" and {broken.size - 1} more" if broken.size > 1 else ""
            raise DataError(
                f"the model as it came gives no answer that {metric.name} can judge, but NaN or "
                f"infinite values, to row {broken.min()} of the {role} file{others}",
                hint="leave those rows out, or mend the model: nothing can be held against them",
            )


def _metrics(job: Job) -> Iterator[Metric]:
    """What candidates are judged by: divergence at first, then the job's metric."""
    names = tuple(spec.name for spec in job.graph.outputs)
    yield default_metric(names, labelled=False)
    yield job.metric
