"""First answers: what only a model that runs can tell, asked before anything is timed.

A model with free dimensions does not say how large its answers are. One inference does: whether the
labels fit them, and whether a metric that is promised all answers at once can have them.
"""

from __future__ import annotations

from autosparse.datasets import Dataset
from autosparse.errors import DataError
from autosparse.evaluation.budget import byte_words
from autosparse.heap import free_memory
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.label_check import extreme_rows, tells_its_shape


def check_first_answers(job: Job) -> None:
    """Run the model as it came on a few rows, where that tells more than its file does.

    Raises:
        DataError: the labels do not fit the answers, or all answers at once do not fit into memory.
        MeasurementError: the model does not run.
    """
    judged = [data for data in (job.selecting, job.gating, job.test) if data is not None]
    if not job.metric.judges_rows_apart:
        _check_room(job, judged)
    elif job.metric.needs_labels and not tells_its_shape(job.metric, job.graph.outputs[0]):
        for data in judged:
            _check_labels(job, data)


def _check_labels(job: Job, data: Dataset) -> None:
    """Let the metric judge the rows with the smallest and the largest label."""
    if data.labels is not None:
        rows = data.rows(extreme_rows(data.labels))
        answers = job.answer(job.original, rows)
        job.metric.score(answers, answers, rows.labels)


def _check_room(job: Job, judged: list[Dataset]) -> None:
    """Hold the memory that all answers take at once against what is free."""
    one = job.answer(job.original, first_rows(job.selecting, 1))
    row_bytes = sum(
        values.nbytes for half in (one.values, one.pair_values or {}) for values in half.values()
    )
    rows, free = max(len(data) for data in judged), free_memory()
    if rows * row_bytes > free:
        raise DataError(
            f"the metric {job.metric.name} is given the answers to all {rows} rows at once: they "
            f"take {byte_words(rows * row_bytes, ' ')}, and {byte_words(free, ' ')} of memory are "
            "free",
            hint="give fewer rows to judge by, or a built-in --metric, which judges them batch by "
            "batch",
        )
