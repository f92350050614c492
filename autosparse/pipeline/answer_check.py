"""Can the model's own answers be judged? A row without one would fail every candidate."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from autosparse.datasets import Dataset, halves
from autosparse.errors import DataError
from autosparse.evaluation.answers import Answers, Batch, Keeper, in_batches
from autosparse.evaluation.metrics import Floats, Metric
from autosparse.evaluation.quality import row_scores
from autosparse.pipeline.job import Job


def check_answers(job: Job, selecting: Answers) -> None:
    """Make sure that the dense model has an answer to every row that will ever be judged.

    Args:
        job: with its data.
        selecting: the model's answers to the rows that select.

    Raises:
        DataError: a row of the validation or the test file has none.
        MeasurementError: the runtime fails on a row.
    """
    first, second = halves(len(job.selecting) + len(job.gating), job.config.seed)
    known = in_batches(selecting, len(job.selecting), job.evaluation_batch)
    _check(job, job.selecting, known, "validation", first)
    answers = job.workshop.answers
    _check(job, job.gating, answers(job.original, job.gating), "validation", second)
    if job.test is not None:
        numbers = np.arange(len(job.test))
        _check(job, job.test, answers(job.original, job.test), "test", numbers)


def _check(
    job: Job, data: Dataset, answers: Iterable[Batch], role: str, numbers: npt.NDArray[np.int64]
) -> None:
    """By what candidates are judged by: divergence at first, then the job's metric."""
    metric, divergence = job.metric, job.workshop.divergence_metric
    if metric.judges_rows_apart:
        found = row_scores(answers, (divergence, metric), data)
        _refuse_broken(divergence, found[0], role, numbers)
        _refuse_broken(metric, found[1], role, numbers)
        return
    # the user's function is not asked about answers that are none
    keeper = Keeper(len(data))
    (scores,) = row_scores(keeper.passing(answers), (divergence,), data)
    _refuse_broken(divergence, scores, role, numbers)
    whole = keeper.kept.loaded()
    _refuse_broken(metric, metric.score(whole, whole, data.labels), role, numbers)


def _refuse_broken(
    metric: Metric, scores: Floats, role: str, numbers: npt.NDArray[np.int64]
) -> None:
    broken = numbers[~np.isfinite(scores)]
    if broken.size:
        others = f" and {broken.size - 1} more" if broken.size > 1 else ""
        raise DataError(
            f"the model as it came gives no answer that {metric.name} can judge, but NaN or "
            f"infinite values, to row {broken.min()} of the {role} file{others}",
            hint="leave those rows out, or mend the model: nothing can be held against them",
        )
